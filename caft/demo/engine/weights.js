// The safetensors format, and the form in which a page holds such a file.

/** Tensors of a safetensors file by name, each {shape, data: Float32Array}. */
class Weights {
  constructor(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const start = 8 + Number(view.getBigUint64(0, true));
    this.header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, start)));
    this.content = bytes.slice(start).buffer; // a copy begins where numbers may begin
    this.found = new Map(); // tensors that were asked for
  }

  has(name) {
    return name in this.header;
  }

  tensor(name) {
    if (!this.found.has(name)) this.found.set(name, this.#read(name));
    return this.found.get(name);
  }

  #read(name) {
    const entry = this.header[name];
    if (entry === undefined) throw new Error(`the weights have no ${name}; give those of the card's model`);
    if (entry.dtype !== "F32") throw new Error(`${name} is of type ${entry.dtype}, expected F32`);
    const [start, end] = entry.data_offsets;
    return {shape: entry.shape, data: new Float32Array(this.content, start, (end - start) / 4)};
  }

  /** Numbers of a tensor. */
  numbers(name) {
    return this.tensor(name).data;
  }

  number(name) {
    return this.numbers(name)[0];
  }
}

/** What Caft.open takes, of what caft.demo.parts gives. */
async function unpack({card, weights, vocabulary}) {
  const [planes, merges] = await Promise.all([inflated(weights), inflated(vocabulary)]);
  return {card, weights: fromPlanes(planes), vocabulary: new TextDecoder().decode(merges)};
}

/** Base64 of zlib's format to bytes. */
async function inflated(text) {
  const characters = atob(text), bytes = new Uint8Array(characters.length);
  for (let place = 0; place < bytes.length; place++) bytes[place] = characters.charCodeAt(place);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** All first bytes, all second ones, ... of words of four bytes, which are so smaller, back to words. */
function fromPlanes(planes) {
  const words = planes.length / 4, bytes = new Uint8Array(planes.length);
  for (let plane = 0; plane < 4; plane++) {
    for (let word = 0; word < words; word++) bytes[4 * word + plane] = planes[plane * words + word];
  }
  return bytes;
}
