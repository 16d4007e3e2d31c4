"""What the shape of an event says: voxels, clusters, paths, arms."""
