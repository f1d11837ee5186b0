// Crops of the camera images, with a component's points drawn into them.

import { imagePath } from './api.js';

const HEIGHT = 130, MARGIN = 0.6, SMALLEST = 60; // pixels on the page; share of the extent; pixels of the image

// pictures: see /api/component; at most two are shown
export function showPictures(place, frame, pictures) {
  place.replaceChildren();
  for (const picture of pictures.slice(0, 2)) {
    const figure = document.createElement('figure'), canvas = document.createElement('canvas');
    const caption = document.createElement('figcaption'), image = new Image();
    caption.textContent = picture.name;
    figure.append(canvas, caption);
    figure.title = 'the pointer on it hides the points';
    place.append(figure);
    image.onload = () => drawCrop(canvas, image, picture, true);
    figure.addEventListener('pointerenter', () => image.complete && drawCrop(canvas, image, picture, false));
    figure.addEventListener('pointerleave', () => image.complete && drawCrop(canvas, image, picture, true));
    image.onerror = () => { caption.textContent = `${picture.name}: image cannot be shown`; };
    image.src = imagePath(frame, picture.camera);
  }
}

function drawCrop(canvas, image, picture, withPoints) {
  canvas.width = canvas.clientWidth * devicePixelRatio;
  canvas.height = HEIGHT * devicePixelRatio;
  const { left, top, scale } = crop(picture, canvas.width, canvas.height);
  const context = canvas.getContext('2d');
  context.drawImage(image, -left * scale, -top * scale, picture.width * scale, picture.height * scale);
  if (!withPoints) return;
  context.fillStyle = '#ff9a1f';
  context.globalAlpha = picture.pixels.length > 3000 ? 0.45 : 0.9;
  const dot = (picture.pixels.length > 3000 ? 1 : 2) * devicePixelRatio;
  for (let i = 0; i < picture.pixels.length; i += 2) {
    const x = (picture.pixels[i] + 0.5 - left) * scale, y = (picture.pixels[i + 1] + 0.5 - top) * scale;
    context.fillRect(x - dot / 2, y - dot / 2, dot, dot);
  }
}

// The part of the image to show: around the points, of the canvas's shape, within the image where it can be.
function crop({ pixels, width, height }, canvasWidth, canvasHeight) {
  let [u0, v0, u1, v1] = [Infinity, Infinity, -Infinity, -Infinity];
  for (let i = 0; i < pixels.length; i += 2) {
    [u0, u1] = [Math.min(u0, pixels[i]), Math.max(u1, pixels[i])];
    [v0, v1] = [Math.min(v0, pixels[i + 1]), Math.max(v1, pixels[i + 1])];
  }
  const wide = Math.max((u1 - u0) * (1 + 2 * MARGIN), SMALLEST), tall = Math.max((v1 - v0) * (1 + 2 * MARGIN), SMALLEST);
  const scale = Math.max(Math.min(canvasWidth / wide, canvasHeight / tall), Math.min(canvasWidth / width, canvasHeight / height));
  const place = (middle, shown, all) => (shown >= all ? (all - shown) / 2 : Math.min(Math.max(middle - shown / 2, 0), all - shown));
  return {
    left: place((u0 + u1) / 2, canvasWidth / scale, width), top: place((v0 + v1) / 2, canvasHeight / scale, height), scale,
  };
}
