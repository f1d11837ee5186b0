// A straight line drawn over the scene with the left button: with Shift held, or once after arm().

const SHORTEST = 8; // pixels

export class Stroke {
  // line: an SVG line over the canvas; onDone: with {x, y} of both ends, in the canvas's pixels
  constructor(canvas, line, onDone) {
    this.line = line;
    this.armed = false;
    // before the controls, which would turn the scene
    canvas.parentElement.addEventListener('pointerdown', (event) => this.begin(event, canvas), { capture: true });
    canvas.parentElement.addEventListener('pointermove', (event) => this.move(event), { capture: true });
    canvas.parentElement.addEventListener('pointerup', (event) => this.end(event, onDone), { capture: true });
  }

  arm() { this.armed = true; }

  begin(event, canvas) {
    if (event.target !== canvas || event.button !== 0 || !(event.shiftKey || this.armed)) return;
    event.stopPropagation();
    canvas.setPointerCapture(event.pointerId);
    this.from = { x: event.offsetX, y: event.offsetY };
    this.move(event);
  }

  move(event) {
    if (!this.from) return;
    event.stopPropagation();
    const ends = { x1: this.from.x, y1: this.from.y, x2: event.offsetX, y2: event.offsetY };
    for (const [name, value] of Object.entries(ends)) this.line.setAttribute(name, value);
    this.line.parentElement.removeAttribute('hidden');
  }

  end(event, onDone) {
    if (!this.from) return;
    event.stopPropagation();
    const { from } = this, to = { x: event.offsetX, y: event.offsetY };
    this.from = null;
    this.armed = false;
    this.line.parentElement.setAttribute('hidden', '');
    if (Math.hypot(to.x - from.x, to.y - from.y) >= SHORTEST) onDone(from, to);
  }
}
