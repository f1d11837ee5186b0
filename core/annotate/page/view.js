// The point cloud: drawing, moving about, and finding the point under the pointer.

import * as THREE from 'three';
import { Stroke } from './stroke.js';
import { OrbitControls } from './three/OrbitControls.js';

const REACH = 6; // pixels around the pointer in which a point counts
export const HIDDEN = 0, PLAIN = 85, CURRENT = 170, MARKED = 255; // fourth byte of a point's colour

const VERTEX = `
  in vec4 tint;
  uniform float size;
  out vec3 shade;
  void main() {
    shade = tint.rgb;
    gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0);
    gl_PointSize = size * (tint.a > 0.9 ? 5.0 : tint.a > 0.5 ? 1.6 : 1.0);
    if (tint.a < 0.1) gl_Position = vec4(2.0, 2.0, 2.0, 1.0);
  }`;
const FRAGMENT = `
  in vec3 shade;
  out vec4 color;
  void main() { color = vec4(shade, 1.0); }`;
// a point's number, from 1, as a colour
const PICK_VERTEX = `
  in vec4 tint;
  uniform float size;
  flat out uint number;
  void main() {
    number = uint(gl_VertexID) + 1u;
    gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0);
    gl_PointSize = size;
    if (tint.a < 0.1) gl_Position = vec4(2.0, 2.0, 2.0, 1.0);
  }`;
const PICK_FRAGMENT = `
  flat in uint number;
  out vec4 color;
  void main() {
    color = vec4(uvec4(number, number >> 8u, number >> 16u, number >> 24u) & 255u) / 255.0;
  }`;

function material(vertexShader, fragmentShader, uniforms) {
  return new THREE.ShaderMaterial({
    glslVersion: THREE.GLSL3, vertexShader, fragmentShader, uniforms, blending: THREE.NoBlending, toneMapped: false,
  });
}

export class View {
  // onClick: with the row of the point, or -1; onStroke: with a plane [a, b, c, d]
  constructor(canvas, stroke, onClick, onStroke) {
    this.canvas = canvas;
    this.renderer = new THREE.WebGLRenderer({ canvas, antialias: false, powerPreference: 'high-performance' });
    this.renderer.outputColorSpace = THREE.LinearSRGBColorSpace; // colours are shown as given
    this.camera = new THREE.PerspectiveCamera(50, 1, 0.2, 2000);
    this.camera.up.set(0, 0, 1);
    this.controls = new OrbitControls(this.camera, canvas);
    this.controls.zoomToCursor = true;
    this.controls.screenSpacePanning = true;
    this.controls.addEventListener('change', () => this.draw());
    this.uniforms = { size: { value: 2 } };
    this.material = material(VERTEX, FRAGMENT, this.uniforms);
    this.pickMaterial = material(PICK_VERTEX, PICK_FRAGMENT, this.uniforms);
    this.points = new THREE.Points(new THREE.BufferGeometry(), this.material);
    this.points.frustumCulled = false;
    this.scene = new THREE.Scene();
    this.scene.add(this.points);
    const side = 2 * REACH + 1;
    this.target = new THREE.WebGLRenderTarget(side, side);
    this.found = new Uint8Array(4 * side * side);
    this.background = 0x16181d;
    new ResizeObserver(() => this.resize()).observe(canvas.parentElement);
    this.resize();
    this.listen(onClick);
    this.stroke = new Stroke(canvas, stroke, (from, to) => onStroke(this.planeThrough(from, to)));
  }

  listen(onClick) {
    let down = null;
    this.canvas.addEventListener('pointerdown', (event) => { down = event; });
    this.canvas.addEventListener('pointerup', (event) => {
      const still = down && !down.shiftKey && Math.hypot(event.clientX - down.clientX, event.clientY - down.clientY) < 4;
      if (still && event.button === 0) onClick(this.pick(event.offsetX, event.offsetY));
      down = null;
    });
    this.canvas.addEventListener('dblclick', (event) => this.focus(this.pick(event.offsetX, event.offsetY)));
  }

  resize() {
    const { clientWidth, clientHeight } = this.canvas.parentElement;
    this.renderer.setPixelRatio(Math.min(window.devicePixelRatio, 2));
    this.renderer.setSize(clientWidth, clientHeight, false);
    this.camera.aspect = clientWidth / Math.max(clientHeight, 1);
    this.camera.updateProjectionMatrix();
    this.draw();
  }

  // xyz: Float32Array [3 N], m
  setCloud(xyz) {
    this.xyz = xyz;
    this.points.geometry.dispose();
    const geometry = new THREE.BufferGeometry();
    geometry.setAttribute('position', new THREE.BufferAttribute(xyz, 3));
    this.tint = new THREE.BufferAttribute(new Uint8Array(4 * (xyz.length / 3)), 4, true);
    geometry.setAttribute('tint', this.tint);
    this.points.geometry = geometry;
  }

  // tint: Uint8Array [4 N]: red, green, blue, and one of HIDDEN, PLAIN, CURRENT, MARKED
  paint(tint) {
    this.tint.array.set(tint);
    this.tint.needsUpdate = true;
    this.draw();
  }

  setSize(size) {
    this.uniforms.size.value = Math.min(Math.max(size, 1), 12);
    this.draw();
  }

  get size() { return this.uniforms.size.value; }

  setBackground(color) {
    this.background = color;
    this.draw();
  }

  // Looks at a component from the sensor's side, from above; steeply where it is flat.
  lookAt(rows, flat) {
    const { center, radius } = this.extent(rows);
    const tilt = THREE.MathUtils.degToRad(flat ? 55 : 30);
    const heading = Math.atan2(-center.y, -center.x);
    const away = Math.min(Math.max(radius * 2.6, 6), 90);
    const toward = new THREE.Vector3(Math.cos(heading) * Math.cos(tilt), Math.sin(heading) * Math.cos(tilt), Math.sin(tilt));
    this.controls.target.copy(center);
    this.camera.position.copy(center).addScaledVector(toward, away);
    this.controls.update();
    this.draw();
  }

  extent(rows) {
    const center = new THREE.Vector3(), point = new THREE.Vector3();
    if (!rows.length) return { center, radius: 20 };
    for (const row of rows) center.add(point.fromArray(this.xyz, 3 * row));
    center.divideScalar(rows.length);
    let square = 0;
    for (const row of rows) square += point.fromArray(this.xyz, 3 * row).distanceToSquared(center);
    return { center, radius: 2 * Math.sqrt(square / rows.length) };
  }

  focus(row) {
    if (row < 0) return;
    const shift = new THREE.Vector3().fromArray(this.xyz, 3 * row).sub(this.controls.target);
    this.controls.target.add(shift);
    this.camera.position.add(shift);
    this.controls.update();
  }

  // Where a point is on the canvas, in its pixels: {x, y}.
  onScreen(row) {
    const point = new THREE.Vector3().fromArray(this.xyz, 3 * row).project(this.camera);
    const { clientWidth, clientHeight } = this.canvas;
    return { x: (point.x + 1) * clientWidth / 2, y: (1 - point.y) * clientHeight / 2 };
  }

  // The plane through the camera and a line on the canvas: [a, b, c, d], in front is ax + by + cz + d > 0.
  planeThrough(from, to) {
    const ray = ({ x, y }) => new THREE.Vector3(2 * x / this.canvas.clientWidth - 1, 1 - 2 * y / this.canvas.clientHeight, 0.5)
      .unproject(this.camera).sub(this.camera.position).normalize();
    const normal = ray(from).cross(ray(to)).normalize();
    return [...normal.toArray(), -normal.dot(this.camera.position)];
  }

  // Row of the point nearest to a place on the canvas; -1 where there is none. The points' numbers are drawn off-screen.
  pick(x, y) {
    if (!this.xyz) return -1;
    const { clientWidth, clientHeight } = this.canvas, side = 2 * REACH + 1;
    this.camera.setViewOffset(clientWidth, clientHeight, x - REACH, y - REACH, side, side);
    this.points.material = this.pickMaterial;
    this.renderer.setRenderTarget(this.target);
    this.renderer.setClearColor(0, 0);
    this.renderer.clear();
    this.renderer.render(this.scene, this.camera);
    this.renderer.readRenderTargetPixels(this.target, 0, 0, side, side, this.found);
    this.renderer.setRenderTarget(null);
    this.points.material = this.material;
    this.camera.clearViewOffset();
    let best = -1, nearest = Infinity;
    for (let i = 0; i < side * side; i++) {
      const number = new DataView(this.found.buffer).getUint32(4 * i, true);
      const distance = Math.hypot((i % side) - REACH, Math.floor(i / side) - REACH);
      if (number && distance < nearest) [best, nearest] = [number - 1, distance];
    }
    return best;
  }

  // Draws with the next picture of the screen, however often it is asked.
  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.renderer.setClearColor(this.background, 1);
      this.renderer.render(this.scene, this.camera);
    });
  }
}
