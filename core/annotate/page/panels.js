// What stands beside the scene: classes, statistics, lists, help.

const LISTED = 150;

export const element = (id) => document.getElementById(id);

function node(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function swatch(color) {
  const made = node('span', undefined, 'swatch');
  made.style.background = `rgb(${color.join()})`;
  return made;
}

export function showClasses(model, onChoose) {
  const buttons = model.classes.map((c) => {
    const button = node('button');
    button.dataset.id = c.id;
    button.title = c.name;
    if (c.key) button.append(node('kbd', c.key.toUpperCase()));
    button.append(swatch(c.color), node('span', c.name));
    button.addEventListener('click', () => onChoose(c.id));
    return button;
  });
  element('classes').replaceChildren(...buttons);
}

export function markClasses(suggested, chosen) {
  for (const button of element('classes').children) {
    const id = Number(button.dataset.id);
    button.classList.toggle('suggested', id === suggested);
    button.classList.toggle('chosen', chosen.includes(id));
  }
}

export function showStatistics({ clicks, median_seconds: seconds, components, all_components: all, points, all_points: allPoints, repeated, agreed, judged, suggested_miou: miou }) {
  const share = (part, whole) => (whole ? ` (${(100 * part / whole).toFixed(1)} %)` : '');
  const rows = [
    ['labelled', `${components} of ${all}`],
    ['clicks', `${clicks}${seconds === null ? '' : `, ${seconds.toFixed(1)} s each`}`],
    ['points', `${compact(points)}${share(points, allPoints)}`],
  ];
  if (repeated) rows.push(['agreed', `${agreed} of ${repeated}`]);
  if (judged) rows.push(['model', `${miou.toFixed(0)} %`]);
  element('statistics').title = `components labelled; clicks, and median seconds a component; points in labelled components${
    repeated ? '; second answers that agree with the first' : ''}${
    judged ? `; mIoU of the suggestions for the ${judged} components answered since they were made` : ''}`;
  element('statistics').replaceChildren(...rows.flatMap(([name, value]) => [node('dt', name), node('dd', value)]));
}

function compact(number) {
  if (number < 10000) return String(number);
  return number < 1e6 ? `${(number / 1e3).toFixed(0)} k` : `${(number / 1e6).toFixed(1)} M`;
}

export function showList(model, kind, current, onChoose) {
  const rows = [];
  const from = kind === 'left' && current ? (model.place.get(current) ?? 0) - 1 : -1;
  for (const item of kind === 'contradicted' ? model.contradicted() : model.list(kind, from)) {
    if (rows.length === LISTED) break;
    const row = node('li'), button = node('button'), state = model.state(item.key);
    const suggestion = model.suggestions.get(item.key);
    if (state?.classes) button.append(swatch(model.colors[state.classes[0]]));
    const against = kind === 'contradicted' ? model.against(item.key) : '';
    const text = (model.answerText(item.key) && model.answerText(item.key) + against) || (suggestion ? `${model.names[suggestion.label]}?` : 'component');
    button.append(node('span', `${text} #${item.id}`), node('span', `${item.size} points`, 'size'));
    button.title = model.windows[item.window].token;
    if (item.key === current) button.className = 'current';
    button.addEventListener('click', () => onChoose(item));
    row.append(button);
    rows.push(row);
  }
  if (!rows.length) rows.push(node('li', kind === 'left' ? 'Nothing is left.' : 'Nothing yet.'));
  element('list').replaceChildren(...rows);
}

const KEYS = [
  ['1–9, letters', 'the class on whose button the key stands'],
  ['Enter', 'accept the suggestion'],
  ['M', 'mixed: click a point, then its class; Enter when that is all, Shift+Enter when there may be more classes'],
  ['X', 'ignored: no class of the list'],
  ['S', 'skip: ask again at the end'],
  ['Ctrl+Z, Ctrl+Shift+Z', 'undo, redo; without limit'],
  ['Delete', 'take the answer to this component back'],
  ['click on a point', 'label its component next'],
  ['Shift + left drag', 'cut: a line across the component splits it in two'],
  ['Esc', 'leave what was begun; else go to the next component of the queue'],
  ['← →', 'previous and next frame'],
  ['left drag, right drag, wheel', 'turn, shift, zoom to the pointer'],
  ['double click', 'turn about this point'],
  ['Home', 'back to the viewpoint of the component'],
  ['+ −', 'size of the points'],
  ['H', 'hide what is labelled'],
  ['?', 'this help'],
];

export function fillHelp() {
  const rows = KEYS.map(([key, meaning]) => {
    const row = node('tr'), cell = node('td');
    cell.append(node('kbd', key));
    row.append(cell, node('td', meaning));
    return row;
  });
  element('keys').replaceChildren(...rows);
}
