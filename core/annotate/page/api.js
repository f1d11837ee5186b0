// What the page asks of the server.

async function answered(response) {
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({ error: response.statusText }));
  throw new Error(error);
}

async function json(path) {
  return (await answered(await fetch(path))).json();
}

export const session = () => json('/api/session');
export const changes = (revision) => json(`/api/changes?since=${revision}`);

export function component(window, id, frame) {
  const query = frame === undefined ? '' : `?frame=${encodeURIComponent(frame)}`;
  return json(`/api/component/${encodeURIComponent(window)}/${id}${query}`);
}

export async function act(action) {
  const options = { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(action) };
  return (await answered(await fetch('/api/action', options))).json();
}

export const imagePath = (frame, camera) => `/api/image/${encodeURIComponent(frame)}/${camera}`;

const clouds = new Map(); // the latest ones, as promises

// {token, xyz: Float32Array [3 N], component: Int32Array [N]}
export function cloud(token) {
  if (!clouds.has(token)) {
    const loading = load(token);
    loading.catch(() => clouds.delete(token));
    clouds.set(token, loading);
    if (clouds.size > 8) clouds.delete(clouds.keys().next().value);
  }
  return clouds.get(token);
}

// After a cut the components are others.
export const forgetClouds = () => clouds.clear();

async function load(token) {
  const content = await (await answered(await fetch(`/api/frame/${encodeURIComponent(token)}`))).arrayBuffer();
  const count = new DataView(content).getUint32(0, true);
  const xyz = new Float32Array(content, 4, 3 * count);
  return { token, xyz, component: new Int32Array(content, 4 + 12 * count, count) };
}
