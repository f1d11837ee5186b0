// The page: which component is shown, and what keys and clicks do.

import * as api from './api.js';
import { listen } from './keys.js';
import { Model, keyOf } from './model.js';
import { element, fillHelp, markClasses, showClasses, showList, showStatistics } from './panels.js';
import { showPictures } from './pictures.js';
import { Theme } from './theme.js';
import { paint } from './paint.js';
import { View } from './view.js';
import { hintOf, titleOf } from './words.js';

const POLL = 3000; // ms between questions for what another page changed

class Page {
  constructor(overview) {
    this.model = new Model(overview);
    const [line] = element('stroke').children;
    this.view = new View(element('view'), line, (row) => this.clicked(row), (plane) => this.alone(() => this.cut(plane)));
    this.theme = new Theme((background) => { this.view.setBackground(background); this.repaint(); });
    this.current = null; // item of the queue
    this.again = false; // the current one comes up a second time
    this.cloud = null;
    this.mixed = null; // {points: [{row, frame, class}], row, label}: the last two wait for each other
    this.hideLabelled = false;
    this.list = 'left';
    this.busy = false;
    showClasses(this.model, (id) => this.choose(id));
    fillHelp();
    listen(this);
    setInterval(() => this.poll(), POLL);
  }

  // Runs one thing at a time; what is asked meanwhile is dropped, so that no key is for a component not yet seen.
  async alone(work) {
    if (this.busy) return;
    this.busy = true;
    element('message').textContent = '';
    try {
      await work();
    } catch (error) {
      element('message').textContent = `Not done: ${error.message}`;
    } finally {
      this.busy = false;
      this.refresh();
    }
  }

  // --- what is shown

  // again: asks for it as if it had no answer yet, to see whether a second one agrees
  async show(item, frame, again = false) {
    const window = this.model.windows[item.window];
    const found = await api.component(window.token, item.id, frame);
    await this.openFrame(found.frame);
    this.current = item;
    this.again = again;
    this.mixed = this.ground = null;
    this.pictures = found.pictures;
    this.repaint();
    this.lookAtCurrent();
    showPictures(element('pictures'), found.frame, found.pictures);
    this.began = performance.now();
    const after = this.model.next(item.key);
    if (after) api.cloud(this.model.windows[after.window].frames[0]).catch(() => {});
  }

  async openFrame(token) {
    if (this.cloud?.token === token) return;
    const cloud = await api.cloud(token);
    this.view.setCloud(cloud.xyz);
    this.cloud = cloud;
  }

  lookAtCurrent() {
    const ground = this.current !== null && this.current.id < this.model.windows[this.current.window].ground;
    this.view.lookAt(this.rows(), ground);
  }

  // Rows of the current component in the frame that is shown.
  rows() {
    const rows = [];
    if (!this.cloud) return rows;
    if (this.current && this.frameWindow() === this.current.window) {
      this.cloud.component.forEach((id, row) => { if (id === this.current.id) rows.push(row); });
    }
    return rows;
  }

  frameWindow() { return this.model.frames[this.model.frameIndex.get(this.cloud.token)].window; }

  async next() {
    const item = this.model.next(this.current?.key);
    if (item) return this.show(item);
    if (!this.cloud) await this.openFrame(this.model.frames[0].token);
    this.current = null;
    element('pictures').replaceChildren();
    this.repaint();
  }

  async step(by) {
    const index = this.model.frameIndex.get(this.cloud.token) + by;
    const frame = this.model.frames[index];
    if (!frame) return;
    if (this.current?.window === frame.window && !this.mixed) return this.show(this.current, frame.token, this.again);
    await this.openFrame(frame.token);
    this.current = this.mixed = null;
    element('pictures').replaceChildren();
    this.repaint();
    this.lookAtCurrent();
  }

  repaint() {
    if (this.cloud) this.view.paint(paint(this));
  }

  refresh() {
    const { model, current, mixed } = this;
    showStatistics(model.statistics);
    showList(model, this.list, current?.key, (item) => this.alone(() => this.show(item)));
    const suggestion = current && model.suggestions.get(current.key);
    const chosen = mixed ? [...mixed.points.map((p) => p.class), mixed.label ?? -1] : current && !this.again ? model.state(current.key)?.classes ?? [] : [];
    markClasses(suggestion?.label, chosen);
    element('what').textContent = titleOf(this);
    element('hint').textContent = hintOf(this);
    element('ground').disabled = !this.cloud || !model.groundLeft(this.frameWindow()).length;
    document.querySelector('[data-list="contradicted"]').hidden = !model.suggestions.size && !model.statistics.repeated;
    element('accept').hidden = !suggestion || Boolean(mixed);
    if (suggestion) {
      element('accept').lastElementChild.textContent = `Accept ${model.names[suggestion.label]} (${Math.round(100 * suggestion.confidence)} %)`;
    }
    element('cut').disabled = element('split').disabled = !current || Boolean(mixed);
    for (const id of ['mixed', 'ignored', 'skip']) element(id).disabled = !current;
    element('all-done').hidden = element('not-all').hidden = !mixed?.points.length;
    if (this.cloud) {
      const index = model.frameIndex.get(this.cloud.token);
      element('frame').textContent = ` frame ${index + 1} of ${model.frames.length}: ${this.cloud.token} `;
    }
  }

  // --- what is done

  async act(action) {
    const answer = await api.act(action);
    if (answer.cut) await this.reload();
    else this.model.update(answer);
    return answer;
  }

  // Reads all again: after a cut, or the undoing of one, the components are others.
  async reload() {
    this.model = new Model(await api.session());
    api.forgetClouds();
    if (!this.cloud) return;
    this.cloud = await api.cloud(this.cloud.token);
    this.current = this.current && (this.model.queue[this.model.place.get(this.current.key)] ?? null);
    this.mixed = null;
  }

  // Splits the current component by a plane in the shown frame's coordinates; without one, into two clusters.
  async cut(plane) {
    if (!this.current || this.mixed) return;
    await this.act({ action: 'cut', ...this.target(), frame: this.cloud.token, plane });
    await this.show(this.current, this.cloud.token);
  }

  target() {
    return { window: this.model.windows[this.current.window].token, component: this.current.id };
  }

  async label(points, complete) {
    const classes = [...new Set(points.map((p) => this.model.names[p.class]))];
    const seconds = (performance.now() - this.began) / 1000;
    const clicked = points.every((p) => p.row !== undefined);
    const where = clicked
      ? { points: points.map((p) => ({ frame: p.frame, row: p.row, class: this.model.names[p.class] })) }
      : { frame: this.cloud.token };
    const action = this.again ? 'repeat' : 'label';
    const { again } = await this.act({ action, ...this.target(), classes, complete, seconds, ...where });
    const item = again && this.model.queue[this.model.place.get(keyOf(...again))];
    await (item ? this.show(item, undefined, true) : this.next());
  }

  choose(id) {
    if (this.ground) { this.alone(() => this.labelGround(id)); return; }
    if (!this.current) return;
    if (!this.mixed) { this.alone(() => this.label([{ class: id }], true)); return; }
    if (this.mixed.row === undefined) this.mixed.label = id;
    else this.addPoint(this.mixed.row, id);
    this.repaint();
    this.refresh();
  }

  clicked(row) {
    if (row < 0 || this.busy) return;
    const id = this.cloud.component[row], window = this.frameWindow();
    const own = this.current && id === this.current.id && window === this.current.window;
    if (!this.mixed) {
      const item = this.model.queue[this.model.place.get(keyOf(window, id))];
      if (item && !own) this.alone(() => this.show(item, this.cloud.token));
      return;
    }
    if (!own) { element('message').textContent = 'That point is not of this component.'; return; }
    element('message').textContent = '';
    if (this.mixed.label === undefined) this.mixed.row = row;
    else this.addPoint(row, this.mixed.label);
    this.repaint();
    this.refresh();
  }

  addPoint(row, id) {
    this.mixed.points.push({ row, frame: this.cloud.token, class: id });
    this.mixed.row = this.mixed.label = undefined;
  }

  // Labels all ground patches of the shown window that have no answer yet; class 0 (ignored) as well.
  async labelGround(id) {
    const window = this.model.windows[this.frameWindow()].token, seconds = (performance.now() - this.began) / 1000;
    this.ground = false;
    await this.act({ action: 'ground', window, classes: [this.model.names[id]], seconds });
    await this.next();
  }

  askForGround() {
    if (this.busy || !this.cloud) return;
    this.mixed = null;
    this.ground = !this.ground;
    this.began = performance.now();
    this.repaint();
    this.refresh();
  }

  async skip() {
    if (!this.again) await this.act({ action: 'skip', ...this.target() });
    await this.next();
  }

  // Undo or redo; goes to the component that it changed.
  async turnBack(kind) {
    const { component } = await this.act({ action: kind });
    if (!component) { element('message').textContent = `Nothing to ${kind}.`; return; }
    const item = this.model.queue[this.model.place.get(keyOf(...component))];
    if (item) await this.show(item);
  }

  async poll() {
    if (this.busy) return;
    try {
      const revision = this.model.revision, answer = await api.changes(revision);
      if (answer.revision === revision || this.busy) return;
      if (answer.cut) { this.alone(() => this.reload().then(() => this.repaint())); return; }
      this.model.update(answer);
      this.repaint();
      this.refresh();
    } catch (error) {
      element('message').textContent = `The server does not answer (${error.message}). What was labelled is saved.`;
    }
  }
}

api.session().then((overview) => {
  const page = new Page(overview);
  window.page = page; // for tests and for the curious
  return page.alone(() => page.next());
}).catch((error) => { element('what').textContent = `The page cannot begin: ${error.message}`; });
