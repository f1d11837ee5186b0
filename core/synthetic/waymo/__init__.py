"""The made-up city in the format of Waymo Open v2."""
