// The colours of a frame's points.

import { CURRENT, HIDDEN, MARKED, PLAIN } from './view.js';
import { keyOf } from './model.js';

// Uint8Array [4 N] for View.paint: the current component orange, what is labelled in its class's colour, the rest grey
export function paint({ model, cloud, current, mixed, ground, hideLabelled, theme }) {
  const { xyz, component } = cloud, count = component.length, tint = new Uint8Array(4 * count);
  const window = model.frames[model.frameIndex.get(cloud.token)].window;
  const asked = new Set(ground ? model.groundLeft(window).map((item) => item.id) : current?.window === window ? [current.id] : []);
  const known = labelColors(model, window, component);
  const { greys: [low, high], accent } = theme.scene;
  for (let row = 0, at = 0; row < count; row++, at += 4) {
    const id = component[row];
    let color = id >= 0 ? known[id] : undefined, kind = PLAIN;
    if (asked.has(id)) [color, kind] = [accent, CURRENT];
    else if (color && hideLabelled) kind = HIDDEN;
    if (color) {
      [tint[at], tint[at + 1], tint[at + 2]] = color;
    } else {
      const height = Math.min(Math.max((xyz[3 * row + 2] + 3) / 8, 0), 1); // of the sensor's surroundings, m
      tint[at] = tint[at + 1] = tint[at + 2] = low + (high - low) * height;
    }
    tint[at + 3] = kind;
  }
  mark(tint, model, cloud, mixed);
  return tint;
}

// Colours of a window's labelled components, by id.
function labelColors(model, window, component) {
  const found = [];
  for (const id of new Set(component)) {
    const state = id >= 0 ? model.state(keyOf(window, id)) : null;
    if (state?.classes) found[id] = model.colors[state.classes[0]];
  }
  return found;
}

function mark(tint, model, cloud, mixed) {
  if (!mixed) return;
  for (const point of mixed.points) {
    if (point.frame === cloud.token) tint.set([...model.colors[point.class], MARKED], 4 * point.row);
  }
  if (mixed.row !== undefined) tint.set([255, 255, 255, MARKED], 4 * mixed.row);
}
