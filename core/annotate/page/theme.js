// Light or dark: as the system has it, until a person chooses.

const SCENES = { dark: { back: 0x16181d, greys: [62, 150], accent: [255, 154, 31] }, light: { back: 0xf4f5f7, greys: [190, 110], accent: [224, 100, 0] } };

export class Theme {
  constructor(onChange) {
    this.onChange = onChange;
    const system = matchMedia('(prefers-color-scheme: light)').matches ? 'light' : 'dark';
    this.name = localStorage.getItem('theme') ?? system;
    queueMicrotask(() => this.apply());
  }

  // {back: colour behind the points, greys: of low and high points, accent: of the current component}
  get scene() { return SCENES[this.name]; }

  // A colour that stands out against the scene's background: lighter, or darker, where it is too near to it.
  readable(color) {
    const brightness = (0.3 * color[0] + 0.6 * color[1] + 0.1 * color[2]) / 255;
    if (this.name === 'dark') {
      const share = Math.max(0, 0.35 - brightness) / (1 - Math.min(brightness, 0.35));
      return color.map((value) => value + (255 - value) * share);
    }
    return brightness > 0.7 ? color.map((value) => value * 0.7 / brightness) : color;
  }

  toggle() {
    this.name = this.name === 'dark' ? 'light' : 'dark';
    localStorage.setItem('theme', this.name);
    this.apply();
  }

  apply() {
    document.documentElement.dataset.theme = this.name;
    this.onChange(this.scene.back);
  }
}
