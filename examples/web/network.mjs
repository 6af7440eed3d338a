// A network as a WebAssembly module, in browsers and in Node.
export async function open(module) {
  const { instance } = await WebAssembly.instantiate(module);
  const { memory, ...network } = instance.exports;
  const count = network.classes();

  function label(i) {
    const bytes = new Uint8Array(memory.buffer, network.label(i));
    return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
  }

  const labels = Array.from({ length: count }, (_, i) => label(i));
  return {
    height: network.height(),
    width: network.width(),
    channels: network.channels(),
    // Of bytes [row][column][channel]: labels and scores, the highest first.
    classify(pixels) {
      new Uint8Array(memory.buffer, network.input(), pixels.length).set(pixels);
      network.run();
      const scores = new Float32Array(memory.buffer, network.output(), count);
      return labels
        .map((label, i) => ({ label, score: scores[i] }))
        .sort((a, b) => b.score - a.score);
    },
  };
}
