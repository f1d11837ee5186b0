"""Colours of what a camera ray meets: paints, light, shadow, haze, sky."""

import numpy as np

from core.running.compiled import njit
from core.synthetic.noise import hash3, smooth_noise
from core.synthetic.raycast import BOX, CONE, CYLINDER, GROUND, SKY, bump, ground_at

# the paints of solids.py and the materials of ground.py, as constants that numba compiles in
from core.synthetic.solids import (
    BANDS,
    BARK,
    BUS,
    CAR,
    CONCRETE,
    CONE_BANDS,
    FACADE,
    FOLIAGE,
    GLASS,
    TRAILER,
    TRUCK,
    WHEEL,
)

_ASPHALT, _MARKING, _TILES, _GRASS, _SOIL, _PAVERS, _PARKING = range(7)


@njit(cache=True, nogil=True)
def shade(origin, rays, distance, hit, solids, ground, light, image):
    """Fills `image` float32 [H, W, 3] (0..255) with the colours of what the rays hit.

    Args:
        origin [3], rays [H, W, 3], distance [H, W], hit [H, W]: as `cast_solids` and `cast_ground` leave them.
        solids: (kind, inverse, axes, center, half, color, paint), in the order of the hits.
        ground: (material grid, shadow grid, grid origin, cell).
        light: (sun, sunlight, skylight, zenith, haze colour, clouds, haze distance).
    """
    kind, inverse, axes, center, half, color, paint = solids
    grid, shadow, grid_origin, cell = ground
    sun, sunlight, skylight, zenith, haze, clouds, haze_distance = light
    rgb, normal, local = np.empty(3), np.empty(3), np.empty(3)
    for row in range(rays.shape[0]):
        for column in range(rays.shape[1]):
            t, s = distance[row, column], hit[row, column]
            rx, ry, rz = rays[row, column, 0], rays[row, column, 1], rays[row, column, 2]
            length = np.sqrt(rx * rx + ry * ry + rz * rz)
            if s == SKY:
                _sky(rx / length, ry / length, rz / length, zenith, haze, clouds, sun, rgb)
                for c in range(3):
                    image[row, column, c] = 255.0 * rgb[c]
                continue
            x, y, z = origin[0] + t * rx, origin[1] + t * ry, origin[2] + t * rz
            depth = t * length
            if s == GROUND:
                material = ground_at(grid, grid_origin, cell, x, y)
                _ground_color(material, x, y, depth, rgb)
                normal[0], normal[1], normal[2] = 0.0, 0.0, 1.0
                if material in (_GRASS, _SOIL):
                    normal[0] = (bump(x, y) - bump(x + 0.3, y)) / 0.3
                    normal[1] = (bump(x, y) - bump(x, y + 0.3)) / 0.3
                direct = 1.0 - ground_at(shadow, grid_origin, cell, x, y) / 255.0
                near_floor = 1.0
            else:
                for c in range(3):
                    local[c] = (
                        inverse[s, c, 0] * (x - center[s, 0])
                        + inverse[s, c, 1] * (y - center[s, 1])
                        + inverse[s, c, 2] * (z - center[s, 2])
                    )
                _normal(kind[s], local, axes[s], half[s], normal)
                rgb[:] = color[s]
                _paint_solid(kind[s], paint[s], local, half[s], (x, y, z), rgb)
                direct = 1.0
                near_floor = 0.62 + 0.38 * min(1.0, max(z, 0.0) / 0.7)
            facing = max(0.0, normal[0] * sun[0] + normal[1] * sun[1] + normal[2] * sun[2])
            open_sky = (0.72 + 0.28 * normal[2]) * near_floor
            clear = np.exp(-depth / haze_distance)
            for c in range(3):
                lit = rgb[c] * (skylight[c] * open_sky + sunlight[c] * facing * direct * near_floor)
                image[row, column, c] = 255.0 * (lit * clear + haze[c] * (1.0 - clear))


@njit(cache=True, nogil=True)
def _sky(x, y, z, zenith, haze, clouds, sun, rgb):
    up = max(z, 0.0)
    blend = up**0.6
    cover = 0.0
    if up > 0.02:
        u, v = 1.3 * x / (up + 0.12), 1.3 * y / (up + 0.12)
        shape = 0.55 * smooth_noise(u, v, 90) + 0.3 * smooth_noise(2.3 * u, 2.3 * v, 91)
        shape += 0.15 * smooth_noise(5.1 * u, 5.1 * v, 92)
        cover = min(1.0, max(0.0, (shape - (0.75 - 0.5 * clouds)) * 4.0)) * min(1.0, up * 6.0)
    glare = max(0.0, x * sun[0] + y * sun[1] + z * sun[2]) ** 24 * 0.35
    for c in range(3):
        clear = haze[c] * (1.0 - blend) + zenith[c] * blend
        rgb[c] = min(1.0, clear * (1.0 - cover) + 0.93 * cover + glare)


@njit(cache=True, nogil=True)
def _ground_color(material, x, y, depth, rgb):
    grain = hash3(int(np.floor(x * 25.0)), int(np.floor(y * 25.0)), 5) - 0.5
    fine = max(0.0, 1.0 - depth / 25.0)
    broad = smooth_noise(0.35 * x, 0.35 * y, 6) - 0.5
    if material in (_ASPHALT, _PARKING):
        value = 0.30 + 0.07 * broad + 0.07 * grain * fine
        value -= 0.05 * (smooth_noise(0.12 * x, 1.5 * y, 7) > 0.72)
        rgb[0], rgb[1], rgb[2] = value, value, 1.03 * value
    elif material == _MARKING:
        value = 0.80 + 0.10 * broad + 0.12 * grain * fine
        rgb[0], rgb[1], rgb[2] = value, value, 0.97 * value
    elif material == _TILES:
        tile = hash3(int(np.floor(x / 0.6)), int(np.floor(y / 0.6)), 8) - 0.5
        joint = min(x / 0.6 - np.floor(x / 0.6), y / 0.6 - np.floor(y / 0.6)) < 0.07
        value = 0.52 + 0.07 * tile + 0.05 * broad + 0.04 * grain * fine - 0.14 * joint * max(0.2, fine)
        rgb[0], rgb[1], rgb[2] = 1.03 * value, value, 0.93 * value
    elif material == _GRASS:
        patch = smooth_noise(0.8 * x, 0.8 * y, 9)
        value = 0.34 + 0.14 * broad + 0.22 * grain * max(0.35, fine)
        rgb[0], rgb[1], rgb[2] = value * (0.72 + 0.30 * patch), value, value * 0.42
    elif material == _SOIL:
        value = 0.40 + 0.12 * broad + 0.16 * grain * max(0.35, fine)
        rgb[0], rgb[1], rgb[2] = value, 0.80 * value, 0.58 * value
    else:  # red pavers, laid in bond
        line = np.floor(y / 0.22)
        shift = 0.5 * (line % 2)
        brick = hash3(int(np.floor(x / 0.44 + shift)), int(line), 10) - 0.5
        joint = (y / 0.22 - line < 0.14) or (x / 0.44 + shift - np.floor(x / 0.44 + shift) < 0.08)
        value = 0.50 + 0.12 * brick + 0.05 * broad - 0.12 * joint * max(0.2, fine)
        rgb[0], rgb[1], rgb[2] = value, 0.56 * value, 0.46 * value


@njit(cache=True, nogil=True)
def _normal(kind, local, axes, half, normal):
    """Outward unit normal in the world at a point of the unit shape."""
    n0, n1, n2 = local[0] / half[0], local[1] / half[1], local[2] / half[2]
    if kind == BOX:
        a0, a1, a2 = abs(local[0]), abs(local[1]), abs(local[2])
        n0 = np.sign(local[0]) if a0 >= a1 and a0 >= a2 else 0.0
        n1 = np.sign(local[1]) if a1 > a0 and a1 >= a2 else 0.0
        n2 = np.sign(local[2]) if a2 > a0 and a2 > a1 else 0.0
    elif kind in (CYLINDER, CONE):
        if kind == CYLINDER and abs(local[2]) > 0.999:
            n0, n1, n2 = 0.0, 0.0, np.sign(local[2])
        else:
            n2 = 0.0 if kind == CYLINDER else 0.25 / half[2]
    for c in range(3):
        normal[c] = axes[c, 0] / half[0] * n0 + axes[c, 1] / half[1] * n1 + axes[c, 2] / half[2] * n2
    length = np.sqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2) + 1e-12
    for c in range(3):
        normal[c] /= length


@njit(cache=True, nogil=True)
def _paint_solid(kind, paint, local, half, place, rgb):
    """Paints a solid's surface over its colour; u runs along the face, v up from the solid's foot, in metres."""
    on_front = kind == BOX and abs(local[0]) >= abs(local[1])
    on_top = kind == BOX and abs(local[2]) > abs(local[0]) and abs(local[2]) > abs(local[1])
    u = local[1] * half[1] + half[1] if on_front else local[0] * half[0] + half[0]
    v = (local[2] + 1.0) * half[2]
    value = _pattern(paint, u, v, local, half, on_front, on_top, rgb) * _texture(paint, u, v, local[2], place)
    for c in range(3):
        rgb[c] *= value


@njit(cache=True, nogil=True)
def _texture(paint, u, v, up, place):
    """Brightness of a material's grain."""
    x, y, z = place
    if paint == FACADE:
        return 0.95 + 0.1 * smooth_noise(0.7 * u, 0.7 * v, 20) + 0.05 * hash3(int(u * 8), int(v * 12), 21)
    if paint == FOLIAGE:
        i, j, k = int(np.floor(x * 9.0)), int(np.floor(y * 9.0)), int(np.floor(z * 9.0))
        leaves = 0.55 + 0.4 * hash3(i, j, k) + 0.4 * hash3(int(x * 27.0), int(y * 27.0), int(z * 27.0))
        return leaves * (0.75 + 0.4 * smooth_noise(1.3 * (x + z), 1.3 * (y - z), 22))
    if paint == BARK:
        return 0.7 + 0.6 * smooth_noise(14.0 * (x + y), 2.0 * z, 23)
    if paint == TRAILER:
        return 0.85 + 0.3 * smooth_noise(1.2 * u, 1.2 * v, 24)
    if paint == CONCRETE:
        return 0.9 + 0.2 * smooth_noise(0.9 * (x + y), 1.4 * z, 25)
    return 0.7 + 1.3 * max(0.0, up) if paint == GLASS else 1.0


@njit(cache=True, nogil=True)
def _pattern(paint, u, v, local, half, on_front, on_top, rgb):
    """Paints windows, bands, lamps and the like; returns the brightness of what it painted."""
    if paint == FACADE and not on_top:
        return _facade(u, v, 2 * half[2], int(rgb[0] * 997), rgb)
    if paint == BUS:
        _bus(u, v, 2 * half[2], on_front, on_top, rgb)
    elif paint == TRUCK:
        _truck(local[0], u, v, 2 * half[2], on_front, on_top, rgb)
    elif paint == TRAILER and not on_top and (u - 0.9 * np.floor(u / 0.9)) < 0.12:
        return 0.55
    elif paint == BANDS and int(np.floor((0.999 * local[1] + 1.0) * half[1] / 0.5)) % 2 == 0:
        rgb[0], rgb[1], rgb[2] = 0.82, 0.81, 0.78
    elif paint == CONE_BANDS and (0.35 < 0.5 * (local[2] + 1.0) < 0.52 or 0.66 < 0.5 * (local[2] + 1.0) < 0.78):
        rgb[0], rgb[1], rgb[2] = 0.88, 0.88, 0.86
    elif paint == CAR and on_front and not on_top:
        if 0.33 < v < 0.5 and abs(local[1]) > 0.66:  # lamps
            rgb[0], rgb[1], rgb[2] = (0.85, 0.85, 0.78) if local[0] > 0 else (0.6, 0.05, 0.04)
        return 0.9
    elif paint == WHEEL:
        across = np.sqrt(local[0] ** 2 + local[1] ** 2)
        if across > 0.62 or across > 0.2 and np.sin(5.0 * np.arctan2(local[1], local[0])) > 0.55:
            rgb[0], rgb[1], rgb[2] = 0.06, 0.06, 0.065
    return 1.0


@njit(cache=True, nogil=True)
def _facade(u, v, height, seed, rgb):
    """Windows in storeys of 3.2 m, shop fronts on the ground floor; returns the brightness of what it painted."""
    wide, storey = 2.1 + 0.25 * (seed % 5), int(np.floor(v / 3.2))
    bay = int(np.floor(u / wide))
    fu, fv = u / wide - bay, v / 3.2 - storey
    if v > height - 0.5:
        return 0.75
    if storey == 0:
        if hash3(bay, seed, 30) < 0.22:
            if 0.3 < fu < 0.7 and fv < 0.72:  # a door
                rgb[0], rgb[1], rgb[2] = 0.26, 0.19, 0.14
                return 1.0
        elif 0.1 < fu < 0.9 and 0.14 < fv < 0.8:
            rgb[0], rgb[1], rgb[2] = 0.18, 0.22, 0.25
            return 0.8 + 0.6 * fv
        return 0.85
    narrow = 0.2 + 0.04 * (seed % 3)
    if narrow < fu < 1.0 - narrow and 0.26 < fv < 0.82:
        lit = hash3(bay, storey, 31 + seed)
        if abs(fu - 0.5) < 0.02:
            rgb[0], rgb[1], rgb[2] = 0.75, 0.75, 0.73
            return 1.0
        rgb[0], rgb[1], rgb[2] = 0.20 + 0.12 * lit, 0.26 + 0.14 * lit, 0.33 + 0.16 * lit
        return 0.8 + 0.5 * fv
    return 1.0 if fv > 0.05 else 0.8


@njit(cache=True, nogil=True)
def _bus(u, v, height, on_front, on_top, rgb):
    share = v / height
    pillar = (u - 1.4 * np.floor(u / 1.4)) < 0.12
    if not on_top and 0.46 < share < 0.82 and not (pillar and not on_front):
        rgb[0], rgb[1], rgb[2] = 0.10, 0.13, 0.16
    elif not on_top and 0.30 < share < 0.36:
        rgb[0], rgb[1], rgb[2] = 0.85, 0.85, 0.82


@njit(cache=True, nogil=True)
def _truck(along, u, v, height, on_front, on_top, rgb):
    share = v / height
    if along > 0.62:  # the cab
        rgb[0], rgb[1], rgb[2] = 0.12, 0.24, 0.50
        if not on_top and 0.5 < share < 0.82:
            rgb[0], rgb[1], rgb[2] = 0.10, 0.12, 0.15
    elif not on_top and share < 0.16:
        rgb[0], rgb[1], rgb[2] = 0.15, 0.15, 0.16
