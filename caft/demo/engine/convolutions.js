// Convolutions of one image: planes {channels, side, data}, channel after channel, square.

/** Adds a plane, shifted and times a factor, to another, whose places lie `stride` of its own apart. */
function accumulate(total, side, plane, planeStart, planeSide, factor, down, right, stride) {
  // total(row, column) += factor * plane(row * stride + down, column * stride + right), zero outside
  const first = axis => Math.max(0, Math.ceil(-axis / stride));
  const last = axis => Math.min(side - 1, Math.floor((planeSide - 1 - axis) / stride));
  const [left, end] = [first(right), last(right)];
  for (let row = first(down), stop = last(down); row <= stop; row++) {
    const from = planeStart + (row * stride + down) * planeSide + right;
    for (let column = left, at = row * side + left; column <= end; column++, at++) {
      total[at] += factor * plane[from + column * stride];
    }
  }
}

/** A convolution of square kernel, zero padded by half of it. */
function convolution(image, weight, bias, stride = 1) {
  const [channels, inputs, kernel] = weight.shape, pad = (kernel - 1) / 2;
  const side = Math.ceil(image.side / stride), size = side * side;
  const data = new Float32Array(channels * size), total = new Float64Array(size);
  for (let channel = 0; channel < channels; channel++) {
    total.fill(bias === null ? 0 : bias[channel]);
    for (let input = 0; input < inputs; input++) {
      for (let place = 0; place < kernel * kernel; place++) {
        const factor = weight.data[(channel * inputs + input) * kernel * kernel + place];
        const [down, right] = [Math.floor(place / kernel) - pad, (place % kernel) - pad];
        accumulate(total, side, image.data, input * image.side ** 2, image.side, factor, down, right, stride);
      }
    }
    data.set(total, channel * size);
  }
  return {channels, side, data};
}

/** A transposed convolution of kernel 4, stride 2 and padding 1, which doubles the side. */
function raised(image, weight, bias) {
  const [inputs, channels, kernel] = weight.shape, side = 2 * image.side, size = side * side;
  const data = new Float32Array(channels * size), total = new Float64Array(size);
  for (let channel = 0; channel < channels; channel++) {
    total.fill(bias[channel]);
    for (let input = 0; input < inputs; input++) {
      for (let place = 0; place < kernel * kernel; place++) {
        const factor = weight.data[(input * channels + channel) * kernel * kernel + place];
        const [down, right] = [Math.floor(place / kernel) - 1, (place % kernel) - 1];
        for (let row = 0; row < image.side; row++) {
          const to = 2 * row + down;
          if (to < 0 || to >= side) continue;
          for (let column = 0; column < image.side; column++) {
            const across = 2 * column + right;
            if (across >= 0 && across < side) {
              total[to * side + across] += factor * image.data[(input * image.side + row) * image.side + column];
            }
          }
        }
      }
    }
    data.set(total, channel * size);
  }
  return {channels, side, data};
}

/** Batch norm with the statistics of the training, then x or `leak` times x below zero. */
function activated(image, weights, name, leak) {
  const [weight, bias, mean, variance] = ["weight", "bias", "running_mean", "running_var"].map(kind =>
    weights.numbers(`${name}.${kind}`));
  const size = image.side ** 2;
  const data = image.data.map((value, place) => {
    const channel = Math.floor(place / size);
    const scaled = ((value - mean[channel]) / Math.sqrt(variance[channel] + 1e-5)) * weight[channel] + bias[channel];
    return scaled > 0 ? scaled : leak * scaled;
  });
  return {...image, data};
}

/** A picture of RGB bytes as planes of (value / 255 - mean) / deviation. */
function planes(rgb, side, mean, deviation) {
  const size = side * side, data = new Float32Array(3 * size);
  for (let place = 0; place < size; place++) {
    for (let channel = 0; channel < 3; channel++) {
      data[channel * size + place] = (rgb[3 * place + channel] / 255 - mean[channel]) / deviation[channel];
    }
  }
  return {channels: 3, side, data};
}
