// A picture of the person's own, in the cells of the dish.

/** {shape, values} for the fixed channels of a model, at most `longest` cells long, in the picture's own proportions. */
export async function readPicture(file, page, longest) {
  const bitmap = await createImageBitmap(file);
  const scale = longest / Math.max(bitmap.width, bitmap.height);
  const smallest = 2 * Math.max(page.cell.filters.shape[2], page.cell.filters.shape[3]);
  const [width, height] = [bitmap.width, bitmap.height].map((size) => Math.max(smallest, Math.round(size * scale)));
  const canvas = new OffscreenCanvas(width, height);
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.fillStyle = "black";
  pen.fillRect(0, 0, width, height);
  pen.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  const { data } = pen.getImageData(0, 0, width, height);
  const { fixed } = page.cell;
  const { mean, std } = page.normalize;
  const values = new Float32Array(fixed * width * height);
  for (let at = 0; at < width * height; ++at) {
    const rgb = [0, 1, 2].map((k) => data[at * 4 + k] / 255);
    const grey = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2];
    for (let k = 0; k < fixed; ++k) {
      values[k * width * height + at] = ((fixed === 1 ? grey : rgb[k]) - mean[k]) / std[k];
    }
  }
  return { shape: [fixed, height, width], values };
}
