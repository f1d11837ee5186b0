// What the page knows: components, their order, and what was said of them. The server alone decides.

export const keyOf = (window, id) => `${window}:${id}`;

export class Model {
  // overview: see /api/session
  constructor(overview) {
    this.classes = overview.classes;
    this.colors = [[128, 128, 128], ...overview.classes.map((c) => c.color)];
    this.names = ['ignored', ...overview.classes.map((c) => c.name)];
    this.windows = overview.windows;
    this.queue = overview.queue.map(([window, id, size]) => ({ window, id, size, key: keyOf(window, id) }));
    this.place = new Map(this.queue.map((item, i) => [item.key, i]));
    this.suggestions = new Map(overview.suggestions.map(([w, id, label, confidence]) => [keyOf(w, id), { label, confidence }]));
    this.frames = overview.windows.flatMap((window, i) => window.frames.map((token) => ({ token, window: i })));
    this.frameIndex = new Map(this.frames.map((frame, i) => [frame.token, i]));
    this.states = new Map();
    this.update(overview);
  }

  // answer: {states, revision, statistics}
  update(answer) {
    for (const [window, id, state] of answer.states) this.states.set(keyOf(window, id), state);
    this.revision = answer.revision;
    this.statistics = answer.statistics;
  }

  state(key) { return this.states.get(key) ?? null; }

  kind(key) {
    const state = this.state(key);
    if (state?.skipped) return 'skipped';
    return state ? 'done' : 'left';
  }

  // Components of a kind, in the queue's order, beginning after a place in it.
  * list(kind, after = -1) {
    for (let i = 1; i <= this.queue.length; i++) {
      const item = this.queue[(after + i + this.queue.length) % this.queue.length];
      if (this.kind(item.key) === kind) yield item;
    }
  }

  // Ground patches of a window that have no answer yet.
  groundLeft(window) {
    return this.queue.filter((item) => item.window === window && item.id < this.windows[window].ground && !this.state(item.key)?.classes);
  }

  // What speaks against the answer to a component, in words: a second answer, or what the network suggests; '' for nothing.
  against(key) {
    const state = this.state(key), suggestion = this.suggestions.get(key);
    if (!state?.classes) return '';
    const names = (ids) => ids.map((id) => this.names[id]).sort().join(' + ');
    if (state.again && names(state.again) !== names(state.classes)) return `, then ${names(state.again)}`;
    return suggestion && !state.classes.includes(suggestion.label) ? `, not ${this.names[suggestion.label]}?` : '';
  }

  // Components with something against their answer: second answers first, then suggestions, the surest first.
  contradicted() {
    const sureness = ({ key }) => (this.state(key).again ? 2 : this.suggestions.get(key).confidence);
    return this.queue.filter(({ key }) => this.against(key)).sort((a, b) => sureness(b) - sureness(a));
  }

  // The next component to ask for: those left first, then those skipped; null where none is.
  next(after) {
    const last = after && this.place.has(after) ? this.place.get(after) : -1;
    for (const kind of ['left', 'skipped']) {
      for (const item of this.list(kind, last)) if (item.key !== after) return item;
    }
    return null;
  }

  // What was said of a component, in words.
  answerText(key) {
    const state = this.state(key);
    if (!state?.classes) return '';
    return state.classes.map((id) => this.names[id]).join(' + ') + (state.complete ? '' : ' + …');
  }
}
