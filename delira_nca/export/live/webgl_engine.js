// The automaton on the graphics card: its channels in layers of RGBA float textures, one or two passes a step.

import { fireThreshold } from "./random.js";
import { fragmentShaders, packNumbers, TEXTURE_ROW, VERTEX_SHADER } from "./webgl_program.js";

/** Raised where the browser or the card cannot run an automaton; the message says what is missing. */
export class NoWebGL extends Error {}

export class WebGLEngine {
  constructor(cell, height, width, sources) {
    this.cell = cell;
    this.layers = Math.ceil(cell.channels / 4);
    this.canvas = document.createElement("canvas");
    const gl = (this.gl = this.canvas.getContext("webgl2", { antialias: false, depth: false }));
    if (!gl) throw new NoWebGL("this browser has no WebGL2");
    if (!gl.getExtension("EXT_color_buffer_float")) throw new NoWebGL("no rendering to float textures");
    if (this.layers > gl.getParameter(gl.MAX_ARRAY_TEXTURE_LAYERS)) throw new NoWebGL("too many channels");
    this.name = `WebGL (${rendererName(gl)})`;
    gl.disable(gl.DITHER);
    this.packed = packNumbers(cell, cell.filters);
    this.makePasses(sources);
    this.reading = gl.createFramebuffer();
    this.grids = [];
    this.resize(height, width);
  }

  /** Whether the browser has taken the card away: nothing that is read is true any more. */
  get isLost() {
    return this.gl.isContextLost();
  }

  /** Take another grid, whose values are not defined yet. The shaders stay. */
  resize(height, width) {
    const { gl } = this;
    const largest = gl.getParameter(gl.MAX_TEXTURE_SIZE);
    if (Math.max(height, width) > largest) throw new NoWebGL(`textures end at ${largest} cells`);
    Object.assign(this, { height, width });
    gl.viewport(0, 0, width, height);
    for (const grid of this.grids) gl.deleteTexture(grid);
    this.grids = [1, 2, 3].map(() => this.makeGrid());
    [this.state, this.candidate, this.next] = this.grids;
    const error = gl.getError();
    if (error !== gl.NO_ERROR) throw new NoWebGL(`WebGL error ${error}`);
  }

  makeGrid() {
    const { gl } = this;
    const texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D_ARRAY, texture);
    gl.texStorage3D(gl.TEXTURE_2D_ARRAY, 1, gl.RGBA32F, this.width, this.height, this.layers);
    for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) {
      gl.texParameteri(gl.TEXTURE_2D_ARRAY, filter, gl.NEAREST);
    }
    return texture;
  }

  makePasses(sources) {
    const { gl, packed } = this;
    const inUniforms = packed.numbers.byteLength <= gl.getParameter(gl.MAX_UNIFORM_BLOCK_SIZE);
    this.numbers = inUniforms ? this.makeUniforms() : this.makeTexture();
    const most = Math.min(gl.getParameter(gl.MAX_DRAW_BUFFERS), gl.getParameter(gl.MAX_COLOR_ATTACHMENTS));
    this.passes = [];
    for (let first = 0; first < this.layers; first += most) {
      const outputs = Math.min(most, this.layers - first);
      const shaders = fragmentShaders(sources, this.cell, packed, { first, outputs, inUniforms });
      const pass = { first, outputs, update: this.makeProgram(shaders.update) };
      if (this.cell.alive) pass.life = this.makeProgram(shaders.life);
      pass.framebuffer = gl.createFramebuffer();
      if (inUniforms) {
        gl.uniformBlockBinding(pass.update.program, gl.getUniformBlockIndex(pass.update.program, "Numbers"), 0);
      }
      this.passes.push(pass);
    }
  }

  makeUniforms() {
    const { gl, packed } = this;
    const buffer = gl.createBuffer();
    gl.bindBufferBase(gl.UNIFORM_BUFFER, 0, buffer);
    gl.bufferData(gl.UNIFORM_BUFFER, packed.numbers, gl.STATIC_DRAW);
    return { update: (numbers) => gl.bufferSubData(gl.UNIFORM_BUFFER, 0, numbers), bind: () => {} };
  }

  makeTexture() {
    const { gl, packed } = this;
    const rows = Math.ceil(packed.numbers.length / 4 / TEXTURE_ROW);
    const texture = gl.createTexture();
    const update = (numbers) => {
      const whole = new Float32Array(rows * TEXTURE_ROW * 4);
      whole.set(numbers);
      gl.bindTexture(gl.TEXTURE_2D, texture);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA32F, TEXTURE_ROW, rows, 0, gl.RGBA, gl.FLOAT, whole);
    };
    update(packed.numbers);
    for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) {
      gl.texParameteri(gl.TEXTURE_2D, filter, gl.NEAREST);
    }
    const bind = (program) => {
      gl.activeTexture(gl.TEXTURE2);
      gl.bindTexture(gl.TEXTURE_2D, texture);
      gl.uniform1i(program.at("numbers"), 2);
    };
    return { update, bind };
  }

  makeProgram(fragment) {
    const { gl } = this;
    const program = gl.createProgram();
    for (const [type, source] of [
      [gl.VERTEX_SHADER, VERTEX_SHADER],
      [gl.FRAGMENT_SHADER, fragment],
    ]) {
      const shader = gl.createShader(type);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) {
        throw new NoWebGL(`the shader does not compile: ${gl.getShaderInfoLog(shader)}`);
      }
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new NoWebGL(gl.getProgramInfoLog(program));
    const places = {};
    return { program, at: (name) => (places[name] ??= gl.getUniformLocation(program, name)) };
  }

  /** Take other weights of the same automaton, its gradients turned by an angle in radians; the state stays. */
  load(cell, angle) {
    this.cell = cell;
    this.turn(angle);
  }

  /** Turn the gradients that cells see by an angle in radians. */
  turn(angle) {
    this.packed = packNumbers(this.cell, this.cell.filtersTurned(angle));
    this.numbers.update(this.packed.numbers);
  }

  /** Values of a rectangle, cell by cell, row by row. Gives the processor time to wait for the card. */
  read(left, top, width, height) {
    const { gl, cell } = this;
    const block = new Float32Array(width * height * cell.channels);
    const layer = new Float32Array(width * height * 4);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.reading);
    for (let l = 0; l < this.layers; ++l) {
      gl.framebufferTextureLayer(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, this.state, 0, l);
      gl.readPixels(left, top, width, height, gl.RGBA, gl.FLOAT, layer);
      for (let k = 0; k < Math.min(4, cell.channels - l * 4); ++k) {
        for (let at = 0; at < width * height; ++at) block[at * cell.channels + l * 4 + k] = layer[at * 4 + k];
      }
    }
    return block;
  }

  write(left, top, width, height, block) {
    const { gl, cell } = this;
    const layer = new Float32Array(width * height * 4);
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D_ARRAY, this.state);
    for (let l = 0; l < this.layers; ++l) {
      for (let k = 0; k < Math.min(4, cell.channels - l * 4); ++k) {
        for (let at = 0; at < width * height; ++at) layer[at * 4 + k] = block[at * cell.channels + l * 4 + k];
      }
      gl.texSubImage3D(gl.TEXTURE_2D_ARRAY, 0, left, top, l, width, height, 1, gl.RGBA, gl.FLOAT, layer);
    }
  }

  /** Update every cell once: the step of delira_nca.rollout.reference. */
  step(t, { seed, fireRate }) {
    const { gl, cell } = this;
    const target = cell.alive ? this.candidate : this.next;
    for (const pass of this.passes) {
      this.draw(pass, pass.update, target, { state: this.state }, ({ at }) => {
        gl.uniform1ui(at("seed"), seed >>> 0);
        gl.uniform1ui(at("stepNumber"), t);
        gl.uniform1ui(at("threshold"), fireThreshold(fireRate));
        gl.uniform1f(at("time"), t * (cell.timeScale ?? 0));
      });
    }
    if (cell.alive) {
      for (const pass of this.passes) {
        this.draw(pass, pass.life, this.next, { state: this.state, candidate: this.candidate }, () => {});
      }
    }
    [this.state, this.next] = [this.next, this.state];
  }

  draw(pass, program, target, grids, setUniforms) {
    const { gl } = this;
    gl.useProgram(program.program);
    gl.bindFramebuffer(gl.FRAMEBUFFER, pass.framebuffer);
    const attachments = [];
    for (let k = 0; k < pass.outputs; ++k) {
      attachments.push(gl.COLOR_ATTACHMENT0 + k);
      gl.framebufferTextureLayer(gl.FRAMEBUFFER, attachments[k], target, 0, pass.first + k);
    }
    gl.drawBuffers(attachments);
    Object.entries(grids).forEach(([name, texture], unit) => {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D_ARRAY, texture);
      gl.uniform1i(program.at(name), unit);
    });
    if (program === pass.update) this.numbers.bind(program);
    setUniforms(program);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  dispose() {
    this.gl.getExtension("WEBGL_lose_context")?.loseContext();
  }
}

function rendererName(gl) {
  const extension = gl.getExtension("WEBGL_debug_renderer_info");
  const full = gl.getParameter(extension ? extension.UNMASKED_RENDERER_WEBGL : gl.RENDERER);
  return /ANGLE \([^,]*, (?<card>[^,(]*)/.exec(full)?.groups.card.trim() || full;
}
