"""The reference pipeline: a picture, a point cloud or voxels in, a triangle mesh out."""
