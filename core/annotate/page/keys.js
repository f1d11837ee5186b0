// What keys and buttons do.

import { element } from './panels.js';

export function listen(page) {
  document.addEventListener('keydown', (event) => pressed(page, event));
  const buttons = {
    accept: () => enter(page, false), mixed: () => command(page, 'm'), ignored: () => command(page, 'x'), skip: () => command(page, 's'),
    'all-done': () => enter(page, false), 'not-all': () => enter(page, true), undo: () => page.alone(() => page.turnBack('undo')),
    redo: () => page.alone(() => page.turnBack('redo')), cut: () => page.view.stroke.arm(), split: () => page.alone(() => page.cut()), ground: () => page.askForGround(), previous: () => command(page, 'ArrowLeft'), next: () => command(page, 'ArrowRight'),
    theme: () => page.theme.toggle(), 'help-button': () => command(page, '?'),
  };
  for (const [id, work] of Object.entries(buttons)) {
    element(id).addEventListener('click', () => { work(); element('view').focus(); });
  }
  for (const tab of document.querySelectorAll('[role="tab"]')) {
    tab.addEventListener('click', () => {
      page.list = tab.dataset.list;
      for (const other of document.querySelectorAll('[role="tab"]')) other.setAttribute('aria-selected', String(other === tab));
      page.refresh();
    });
  }
}

function pressed(page, event) {
  if (element('help').open || event.altKey || event.repeat) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.ctrlKey || event.metaKey) {
    if (key !== 'z' && key !== 'y') return;
    event.preventDefault();
    page.alone(() => page.turnBack(key === 'y' || event.shiftKey ? 'redo' : 'undo'));
    return;
  }
  const onButton = event.target instanceof HTMLButtonElement && (key === 'Enter' || key === ' ');
  if (onButton) return;
  const named = page.model.classes.find((c) => c.key === key);
  if (named) page.choose(named.id);
  else if (key === 'Enter') enter(page, event.shiftKey);
  else if (!command(page, key)) return;
  event.preventDefault();
}

function enter(page, more) {
  if (!page.current) return;
  if (page.mixed?.points.length) { page.alone(() => page.label(page.mixed.points, !more)); return; }
  const suggestion = page.model.suggestions.get(page.current.key);
  if (suggestion && !page.mixed) page.choose(suggestion.label);
}

// Whether a key is a command; carries it out.
function command(page, key) {
  const withCurrent = {
    m: () => { page.mixed = { points: [] }; },
    x: () => (page.mixed || page.ground ? page.choose(0) : page.alone(() => page.label([{ class: 0 }], true))),
    s: () => page.alone(() => page.skip()),
    Delete: () => page.again || page.alone(() => page.act({ action: 'clear', ...page.target() })),
    Home: () => page.lookAtCurrent(),
  };
  const always = {
    ArrowLeft: () => page.alone(() => page.step(-1)),
    ArrowRight: () => page.alone(() => page.step(1)),
    Escape: () => { if (page.mixed || page.ground) page.mixed = page.ground = null; else page.alone(() => page.next()); },
    '+': () => page.view.setSize(page.view.size + 1),
    '-': () => page.view.setSize(page.view.size - 1),
    h: () => { page.hideLabelled = !page.hideLabelled; },
    '?': () => element('help').showModal(),
  };
  const work = always[key] ?? (page.current ? withCurrent[key] : undefined);
  if (!work || page.busy) return false;
  work();
  page.repaint();
  page.refresh();
  return true;
}
