// What the page says of where it is: the line above the scene, and the line in it.

export function titleOf({ model, current, again }) {
  if (!current) return model.next() ? 'No component chosen' : 'All components are labelled.';
  const answer = again ? '' : model.answerText(current.key);
  const kind = current.id < model.windows[current.window].ground ? 'ground' : 'cluster';
  return `Component ${current.id} (${kind}, ${current.size} points)${answer ? `: ${answer}` : ''}`;
}

export function hintOf({ mixed, ground, current, model }) {
  if (ground) return 'All orange ground patches at once: press the key of their class; Esc leaves.';
  if (mixed) return hintOfMixed(mixed, model);
  if (!current) return 'Click on a component, or press Esc for the next one of the queue.';
  return 'What are the orange points? Press the key of their class; M if several, X if none, S if unsure. ? shows all keys.';
}

function hintOfMixed({ row, label, points }, model) {
  if (row !== undefined) return 'Which class is the marked point? Press its key.';
  if (label !== undefined) return `Click a point of ${model.names[label]}.`;
  if (points.length) return 'Click a point of the next class, or press Enter if that is all.';
  return 'Mixed: click a point of each class, and say which it is.';
}
