"""Read-outs: pixels, tiles, wires and waveforms."""
