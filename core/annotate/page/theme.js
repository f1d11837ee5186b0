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
