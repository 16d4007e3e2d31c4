"""What reads and writes the files of the camera: zfits, digicamtoy HDF5, plain arrays."""
