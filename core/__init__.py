"""IUPC: weakly supervised LiDAR segmentation with association learning between points and images."""
