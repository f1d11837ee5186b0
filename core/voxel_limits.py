"""How far voxels may lie apart: what a key of the sparse layers holds. By itself, since those need torch."""

# Bits of a packed key: batch 12, x 18, y 18, z 15. The offsets make negative coordinates sort in order and leave a
# margin, so that adding a neighbour's offset never carries into the next field.
X_BITS, Y_BITS, Z_BITS = 18, 18, 15
COORDINATE_LIMITS = (2 ** (X_BITS - 1) - 64, 2 ** (Y_BITS - 1) - 64, 2 ** (Z_BITS - 1) - 64)
"""|x|, |y|, |z| in voxels are below these."""
