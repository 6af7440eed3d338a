"""Small mistakes of meaning, in every part of the package, for `mutants.py` to plant.

A fault is found by its old text, which is in one place of the whole package, and not by
a file name, since files move. None is a syntax error, and none leaves all results as
they were.
"""

from typing import NamedTuple


class Fault(NamedTuple):
    """One mistake.

    Arguments:
        name: Where, and what is wrong.
        old, new: What is replaced by what; new is often a little simpler than right.
        tests: Files and folders, run in this order until a test fails; and then the
            folders of these files, which may have another name by now.
        only: An expression for pytest's -k, to save time.
    """

    name: str
    old: str
    new: str
    tests: str
    only: str = ""


# After @ what should catch the faults below it, the most telling first. Then for each
# its name, the lines that are replaced, and those that replace them.
_WRITTEN = r"""
# quantizers
@ tests/quantizers/test_recu.py
recu: biased variance
-variance = tf.square(filters.sigma) * count / (count - 1) + _EPSILON
+variance = tf.square(filters.sigma) + _EPSILON
recu: quantile per filter
-* tf.reduce_mean(magnitudes)
+* magnitudes
@ tests/quantizers/test_rsign.py
rsign: gradient of the shift without the scale
-(upstream, x, *weights, estimator=estimator)
-        return d_x, channel_sum(d_x) / scale
+(upstream, x, *weights, estimator=estimator)
+        return d_x, channel_sum(d_x)
@ tests/quantizers/test_progressive_sign.py
progressive_sign: signs have another gradient
-d_x = rsign_gradient(upstream, x, shift, factor, estimator="ste_sign")
+d_x = rsign_gradient(upstream, x, shift, factor, estimator="ste_sign")
+        d_x = tf.where(uniform < fraction, 0.0 * d_x, d_x)
@ tests/callbacks/test_schedulers.py
progressive_binarization: all layers at once
-return min(max(progress * len(self._quantizers) - place, 0.0), 1.0)
+return min(max(progress, 0.0), 1.0)
@ tests/quantizers/test_biper.py
biper: gradient of a sine of frequency 1
-slope = frequency * tf.cos(frequency * at_least_float32(kernel))
+slope = tf.cos(frequency * at_least_float32(kernel))
@ tests/quantizers/test_rsign.py
rsign: threshold rounded to half precision
-tf.cast(lq.math.sign(at_least_float32(x) - threshold), x.dtype)
+lq.math.sign(x - tf.cast(threshold, x.dtype))
@ tests/test_contract.py -k test_gradients and SignSwish
sign_swish: whole angle
-(2 - t * tf.tanh(t / 2))
+(2 - t * tf.tanh(t))
sign_swish: gradient of beta without beta
-tf.reduce_sum(product(d_x, x)) / beta
+tf.reduce_sum(product(d_x, x))
@ tests/test_contract.py -k test_gradients and SigmoidSign
sigmoid_sign: half of the slope
-return 2 * slope * tf.sigmoid(t) * tf.sigmoid(-t)
+return slope * tf.sigmoid(t) * tf.sigmoid(-t)
@ tests/quantizers/test_standardized_kernels.py
scaled_std_sign: gradient of the gain without the scale
-d_gain = scale * (magnitude * unit_sum(with_sign))
+d_gain = magnitude * unit_sum(with_sign)
scaled_standardization: NaN of constant filters
-tf.math.divide_no_nan(inner / count, sigma * (sigma + epsilon))
+inner / count / (sigma * (sigma + epsilon))
@ tests/quantizers/test_binary_regularized.py
binary_regularized: penalty counted at every call
-        self._clear_losses()
-
+
# layers
@ tests/test_contract.py -k test_gradients and FilterResponseNormalization
frn: power of the rate
-direct, along = inverse_rms * gamma, gamma * inner * inverse_rms**3
+direct, along = inverse_rms * gamma, gamma * inner * inverse_rms**2
@ tests/layers/test_normalizations.py
frn: learned epsilon without its absolute value
-epsilon += tf.abs(beside(inputs, self.learned_epsilon))
+epsilon += beside(inputs, self.learned_epsilon)
@ tests/test_contract.py -k test_gradients and EvoNormS0
evonorm: gradient of the variance around zero
-direct * slope - (wide - mean) * along
+direct * slope - wide * along
@ tests/test_contract.py -k test_gradients and ActivationStandardization
activation_standardization: biased variance
-unbiased = count / (count - 1)
+unbiased = count / count
@ tests/test_contract.py -k test_gradients and RPReLU
rprelu: gradient of the slope before the shift
-g * tf.minimum(z, 0)
+g * tf.minimum(z - shift_in, 0)
@ tests/layers/test_activations.py
rprelu: logarithm to the wrong base
-lambda upstream: upstream * power * math.log(2)
+lambda upstream: upstream * power
@ tests/layers/test_sign_flip_dropout.py
sign_flip_dropout: gradient through what was replaced
-return tf.where(uniform < rate, tf.stop_gradient(coin), x)
+return tf.where(uniform < rate / 2, tf.stop_gradient(coin), x)
@ tests/layers/test_activations.py
skip_init: begins at one
-gain_initializer: Any = "zeros"
+gain_initializer: Any = "ones"
tlu: gradient of a tie to the threshold
-return tf.maximum(inputs, tf.cast(self.tau, inputs.dtype))
+return tf.maximum(tf.cast(self.tau, inputs.dtype), inputs)
@ tests/layers/test_kalman.py
kalman: variance without the distance
-+ p * excess + p * (1 - p) * tf.square(distance)
++ p * excess
kalman: a frozen layer still learns
-if not training or not self.trainable:
+if not training:
@ tests/layers/test_preconditioning.py
preconditioning: first averages begin at zero
-momentum = tf.minimum(1 - 1 / beside(x, batches), self.momentum)
+momentum = self.momentum
preconditioning: channels of groups mixed up
-return tf.transpose(tf.reshape(statistic, (self._groups, -1)))
+return tf.reshape(statistic, (-1, self._groups))
@ tests/layers/test_proxy.py
proxy: gradient without the mean of the group
-inverse * (gamma * d_y - across - normalized * along)
+inverse * (gamma * d_y - normalized * along)
@ tests/layers/test_leaky_integrate_and_fire.py
leaky_integrate_and_fire: hard reset passes gradients
-d_reset = 1.0 if soft else tf.cast(before < threshold, before.dtype)
+d_reset = 1.0
@ tests/layers/test_fake_quantization.py
fake_quantization: one overflow widens the range
-finite = tf.math.is_finite(least) & tf.math.is_finite(most)
+finite = tf.math.is_finite(least) | tf.math.is_finite(most)
@ tests/test_contract.py -k IndependentComponent
independent_component: axis as Keras rewrites it
-_in_config = "rate seed axis=_given_axis"
+_in_config = "rate seed"
@ tests/layers/test_propagate_moments.py
moments: square of the sum
-tf.reduce_sum(tf.square(kernel), taps)
+tf.square(tf.reduce_sum(kernel, taps))
@ tests/test_contract.py -k test_gradients and EvoNormS0
groups: channels of groups interleaved
-tf.tile(by_group, (1, 1, size))
+tf.tile(tf.transpose(by_group, (0, 2, 1)), (1, size, 1))
# optimizers
@ tests/optimizers/test_clipping.py
agc: floor under the limit, not under the norm
-limits = clip_factor * base
+limits = tf.maximum(clip_factor * _concatenate(weight_norms), epsilon)
@ tests/optimizers/test_unit_axes.py
agc: units of a transposed kernel
-(keras.layers.Conv2DTranspose, "kernel", (0, 1, 3))
+(keras.layers.Conv2DTranspose, "kernel", (0, 1, 2))
@ tests/optimizers/test_files.py -k replicas
agc: replicas clip on their own
-pairs = inner.aggregate_gradients(pairs)
+pairs = list(pairs)
@ tests/optimizers/test_wrappers.py
agc: norms of signs instead of latent weights
-[getattr(v, "latent_variable", v) for v in variables],
+variables,
@ tests/optimizers/test_groups.py
groups: weight decay without the factor
-rule.weight_decay = factor * decay
+rule.weight_decay = decay
@ tests/optimizers/test_wrappers.py
groups: quantized value for the latent one
-            latent = getattr(variable, "latent_variable", variable)
-
+            latent = variable
+
@ tests/optimizers/test_boolean.py
boolean: nothing is forgotten
-accumulator = kept * accumulator + learning_rate * gradient
+accumulator = accumulator + learning_rate * gradient
# callbacks and regularizers
@ tests/callbacks/test_schedulers.py
schedulers: one epoch ahead
-self.value_at(epoch / epochs, place)
+self.value_at((epoch + 1) / epochs, place)
@ tests/callbacks/test_throughput.py
throughput: counts the first step
-images = self.batch_size * (self._steps - steps)
+images = self.batch_size * self._steps
@ tests/callbacks/test_weights.py
weights: depthwise filters taken together
-depthwise = "depthwise_kernel" in self._variable.name
+depthwise = False
@ tests/callbacks/test_clipping.py
clipping monitor: counts all epochs
-clipped, seen = self._totals() - self._before
+clipped, seen = self._totals()
@ tests/test_regularizers.py tests/test_contract.py -k regularizer or scale
regularizer: mean and median swapped
-best = "median" if self.order == 1 else "mean"
+best = "mean" if self.order == 1 else "median"
# models
@ tests/models/test_reactnet.py
variance: the first block counts under every rule
-if block > 0 or rule == "nf":
+if block >= 0 or rule == "nf":
@ tests/models/test_reactnet_a.py
paired variances: the second branch is forgotten
-rule == "vita" else second + alpha**2
+rule == "vita" else second
@ tests/models/test_resnet20.py
resnet20: one tail of the clipped density
-variance * (inside - 2 * bound * density)
+variance * (inside - bound * density)
@ tests/models -k VGGSmall
head: logits in half precision
-head = HEADS[self.head](self.classes, name="head", dtype="float32")
+head = HEADS[self.head](self.classes, name="head")
@ tests/models/test_birealnet.py
birealnet: binary shortcuts
-residual18(frame, parts, blocks, alpha, variance_rule, binary=False)
+residual18(frame, parts, blocks, alpha, variance_rule)
@ tests/models/test_densenet.py
densenet: stem not centered under filter response
-Normalization(filter_response, beside=False, centered=False)
+Normalization(filter_response, beside=False)
@ tests/models/test_meliusnet.py
meliusnet: groups of the stem swapped
-(width // 2, 1, 4), (width, 1, 8))
+(width // 2, 1, 8), (width, 1, 4))
grouped convolution: outputs dealt out in turn
-np.arange(kernel.shape[-1]) * groups // kernel.shape[-1]
+np.arange(kernel.shape[-1]) % groups
@ tests/models/test_vgg.py tests/models/test_resnet20.py
kernels: deviation of the other magnitude
-(1.0 if self.variance_preserving else 0.75**0.5)
+(0.75**0.5 if self.variance_preserving else 1.0)
@ tests/models/test_normalizations.py
normalizers: proxy activation on the wrong side
-activation = "leaky_relu" if branch else "linear"
+activation = "linear" if branch else "leaky_relu"
@ tests/models/test_moments.py
moments of networks: variance scaled once
-config |= {"scale": layer.scale**2, "offset": 0.0}
+config |= {"scale": layer.scale, "offset": 0.0}
# calibration and graph
@ tests/calibration/test_layers.py
calibration: shift without the scale of the sign
-self._assign(shift, factor * mean)
+self._assign(shift, -mean)
@ tests/calibration/test_networks.py
calibration: real kernels to the binary target
-target = getattr(kernel, "scale", 1.0) if _reads_signs(call) else 1.0
+target = getattr(kernel, "scale", 1.0)
@ tests/calibration/test_calibrate.py
calibration: half done after an error
-        rules.undo()
-        raise
+        raise
@ tests/graph tests/surgery/test_fold.py
graph: an output may be changed
-if len(readers) == 1 and not self.is_output(tensor) else None
+if len(readers) == 1 else None
@ tests/graph/test_flat.py
graph: training fixed on an inner model is lost
-return self.run(call.layer, inner, training if fixed is None else fixed)
+return self.run(call.layer, inner, training)
@ tests/graph/test_flat.py tests/surgery
graph: axis of ghost batch norm
-config["axis"] = [axis - 1 for axis in layer.axis]
+config["axis"] = list(layer.axis)
@ tests/graph/test_probe.py
probe: means of positive and negative numbers are 0
-for side in (_POSITIVE, _NEGATIVE):
+for side in (_POSITIVE,):
# surgery
@ tests/surgery/test_fold.py
batch norm: gain without epsilon
-/ np.sqrt(
-        variance + layer.epsilon
-    )
+/ np.sqrt(variance)
@ tests/graph/test_thresholds.py tests/surgery
threshold: sign of zero behind a negative gain
-np.where(self.negated, edge <= value, edge < value)
+edge < value
@ tests/surgery/test_fold_ahead.py
fold: a negative gain before a sign
-if np.any(scale <= 0):
+if np.any(scale == 0):
@ tests/surgery/test_fold.py
fold: depthwise outputs in the other order
-scale = scale.reshape(kernel.shape[-2:])
+scale = scale.reshape(kernel.shape[:-3:-1]).T
fold: a bias before the scale
-bias = bias + operation.arrays["bias"].astype(np.float64) * affine.scale
+bias = bias + operation.arrays["bias"].astype(np.float64)
@ tests/test_copies.py tests/surgery
copies: weights are set, and nothing is derived from them
-        part.finalize_state()
+        pass
@ tests/test_copies.py tests/graph
copies: no copy is compared
-    if _operation.is_function(given):  # both call the same function
+    if given is not None:
copies: losses and calls of an alias are those of the layer
-    same = copy(layer)
-
+    same = layer
+
@ tests/surgery/test_reestimate.py
re-estimate: variance within batches only
-self.comoment + other.comoment + between,
+self.comoment + other.comoment,
@ tests/surgery/test_remove_weights.py
remove: bias of a scaled branch
-values["bias"] = alpha * bias
+values["bias"] = bias
@ tests/surgery/test_remove_scales.py
remove: moments of a clipped variable
-density[0] - (center + high) * density[1])
+density[0] + (center + high) * density[1])
@ tests/surgery/test_freeze.py
freeze: gains of falling channels
-gain = np.copysign(np.sqrt(ratio), both)
+gain = np.sqrt(ratio)
# training
@ tests/training/test_recipes.py
recipes: learning rate
-learning_rate=3e-3,
-    beta_2=0.99,
+learning_rate=1e-3,
+    beta_2=0.99,
@ tests/training/test_step.py
step: gradients of parts are summed
-total / count if used else None
+total if used else None
@ tests/training/test_strategy.py
step: predictions of blanks count
-predicted = self(x, training=False)[:count]
+predicted = self(x, training=False)
@ tests/training/test_checkpoints.py
checkpoints: steps since the last overflow
-variables += [scale.current_loss_scale, scale.counter]
+variables += [scale.current_loss_scale]
@ tests/training/test_choice.py
averages: not started from the weights
-average.assign(weight.read_value())
+average.assign_add(weight.read_value() * 0.5)
averages: batch norm keeps the statistics of training
-return (drawn or averaged) and has_batch_norm(network)
+return drawn and has_batch_norm(network)
checkpoints: that of the best epoch goes
-needed = {target, *self._best_file(header["state"])}
+needed = {target}
patience: a run that stopped early is trained on
-epochs=position.epochs if over else self.config.epochs,
+epochs=self.config.epochs,
@ tests/training/test_run.py
journal: learning rate of the next epoch
-self._learning_rate(epoch * self._steps)
+self._learning_rate((epoch + 1) * self._steps)
@ tests/training/test_recipes.py
schedule: cosine does not end at zero
-total - warmup * steps,
+total,
@ tests/training/test_strategy.py
strategy: the rest of an uneven batch is lost
-replica * total // replicas, (replica + 1) * total // replicas
+replica * (total // replicas), (replica + 1) * (total // replicas)
shares: parts of a batch are not counted
-if batch_size % (replicas * micro):
+if batch_size % replicas:
@ tests/training/test_stopping.py
stopping: a swallowed signal is forgotten
-if _signals.stopped_by is not None and not _signals.in_step:
+if False:
@ tests/training/test_diagnosis.py
diagnosis: last layer instead of the cause
-for layer, value in zip(layers, values, strict=True):
+for layer, value in reversed([*zip(layers, values, strict=True)]):
@ tests/training/test_step.py
attention: magnitudes instead of squares
-q = tf.reduce_sum(tf.square(at_least_float32(maps)), 3)
+q = tf.reduce_sum(tf.abs(at_least_float32(maps)), 3)
@ tests/training/test_recipes.py
stochastic depth: the first branch is always there
-share = rate * (adds.index(layer.name) + 1) / len(adds)
+share = rate * adds.index(layer.name) / len(adds)
@ tests/optimizers/test_agc.py
silence: a change is forgotten at once
-rate = MOMENTUM * self.rate + (1 - MOMENTUM) * flipped
+rate = (1 - MOMENTUM) * flipped
@ tests/training/test_teacher.py
teacher: teaches in training mode
-outputs = teacher(images, training=False)
+outputs = teacher(images, training=True)
@ tests/training/test_checkpoints.py
randomness: the same draws in every epoch
-np.random.SeedSequence([self._seed, epoch, place])
+np.random.SeedSequence([self._seed, place])
@ tests/training/test_report.py
report: deviation of a population
-statistics.stdev(values)
+statistics.pstdev(values)
@ tests/training/test_report_plot.py
groups: a failed seed does not count
-return complete, -1.0 if accuracy is None else accuracy
+return True, -1.0 if accuracy is None else accuracy
@ tests/training/test_scoring.py
scoring: probabilities as logits
-return np.log(np.maximum(outputs, _STEP / 2 if rounded else 1e-12))
+return np.maximum(outputs, _STEP / 2 if rounded else 1e-12)
# data
@ tests/data/test_load.py
augmentation: mirrored one pixel off
-tf.where(mirrored == 1, width - 1 - across, across)
+tf.where(mirrored == 1, width - across, across)
load: a thread tunes it
-options.autotune.enabled = False
+options.autotune.enabled = True
@ tests/data/test_records.py
records: one byte too early
-records.append((place + _BEFORE, size))
+records.append((place + _BEFORE - 1, size))
@ tests/data/folder/test_decode.py
pictures: turned the other way
-ImageOps.exif_transpose(opened, in_place=True)
+pass
@ tests/data/folder/test_layout.py
pictures: more for testing than asked for
-/ 16**_HEX_DIGITS < fraction
+/ 16**_HEX_DIGITS > fraction
@ tests/data/folder/test_images.py
pictures: statistics of bytes, not of [0, 1]
-variance = (count * int(square) - int(total) ** 2) / (255 * count) ** 2
+variance = (count * int(square) - int(total) ** 2) / (256 * count) ** 2
@ tests/data/test_augment.py
augmentation: the same crops in every epoch
-transform.draw(source.length, (seed, 2 * epoch + 1), source.shape)
+transform.draw(source.length, (seed, 1), source.shape)
mixup: each with itself
-tf.roll(images, 1, 0)
+tf.roll(images, 0, 0)
# files of others
@ tests/loading
loading: what runs code is accepted by its name
-isinstance(value, type) and issubclass(value, _BASES) and not runs_code(value)
+isinstance(value, type) and issubclass(value, _BASES)
loading: a class is accepted whatever its module
-return _is_part(value) and name in _classes()
+return name in _classes() or name in RUNNING_CODE
loading: arrays declare nothing
-declared += item.nbytes if item.shape is not None else 0
+declared += 0
# diagnostics and interop
@ tests/interop
interop: a kernel's rows and columns swapped
-return array.transpose(2, 3, 1, 0)[::-1, ::-1]
+return array.transpose(3, 2, 1, 0)[::-1, ::-1]
interop: kernels are not rotated as images are
-return array.transpose(2, 3, 1, 0)[::-1, ::-1]
+return array.transpose(2, 3, 1, 0)
# deploy
@ tests/graph/test_thresholds.py tests/deploy/operations
threshold: a whole sum stays one
-np.where(np.abs(count) <= _MOST_STEPS, (below + 0.5) * step, value)
+value
@ tests/deploy/operations/test_affine.py
operations: offset of merged gains
-replace(self, k=k * self.k, b=k * self.b + b)
+replace(self, k=k * self.k, b=self.b + b)
operations: a bias that is not scaled
-made = replace(self, bias=k * self.bias + b)
+made = replace(self, bias=self.bias + b)
operations: a negative gain does not turn a binary kernel
-return made._times(np.where(k < 0, -1.0, 1.0))
+return made
operations: kernels do not undo opposite signs
-weights=kernel.weights * turn
+weights=kernel.weights
operations: a batch norm without its epsilon
-np.sqrt(variance + node.op.get_attr("epsilon"))
+np.sqrt(variance)
operations: channels of a flattened map in the other order
-np.tile(numbers, times)
+np.repeat(numbers, times)
operations: a negative gain moves before a maximum
-(pool.type == "MaxPool" and np.any(node.k < 0))
+(pool.type == "MaxPool" and np.any(node.k == 0))
@ tests/deploy/operations/test_factors.py
operations: a factor leaves the bias as it is
-scaled = node.absorb_output(factor, np.zeros(1))
+scaled = node.absorb_output(factor, node.bias * (1 - factor))
operations: a number divided by a map is a map divided by it
-if place == 0 or not np.all(divisor):
+if not np.all(divisor):
operations: a number less a map has the sign of the map
-_affine(node, 1, factor, b)
+_affine(node, 1, 1.0, b)
@ tests/deploy/operations/test_shifts.py
operations: a shift of a kernel without its sums
-weights.sum(axis=tuple(range(weights.ndim - 2)))
+weights.mean(axis=tuple(range(weights.ndim - 2)))
operations: what reads a map has a shift twice
-Affine(name, node.reads, without, 1.0, -node.shift)
+Affine(name, node.reads, without, 1.0, node.shift)
operations: a shift goes into kernels that meet zeros
-(self.padding == "VALID" or single)
+True
operations: a shift after a shift is not scaled
-replace(self, k=self.k * k, b=self.b + self.k * b)
+replace(self, k=self.k * k, b=self.b + b)
@ tests/deploy/operations/test_rules.py
operations: shift of a sign beside a factor
-shift=sign.shift * node.k
+shift=sign.shift
operations: a threshold one sum too low
-clear = _thresholds.between_steps(at, 1.0, negated)
+clear = _thresholds.between_steps(at - 1, 1.0, negated)
@ tests/deploy/operations/test_ties.py
operations: a negative factor keeps the side of a tie
-negated = negated ^ (reader.k < 0)
+negated = negated
@ tests/deploy/operations/test_ties.py
operations: sums beside a border of halves are whole numbers
-if isinstance(before, Pad) and before.value % 1:
+if isinstance(before, Pad) and before.value % 1 > 1:
@ tests/deploy/operations/test_ties.py
operations: ties of falling sums go to the other side
-between_steps(limit.value, step, limit.negated)
+between_steps(limit.value, step)
@ tests/deploy/operations/test_layers.py tests/deploy/test_packed.py
operations: 0 is not on the side of a step
-side, size = (1.0 if middle == high else -1.0), (high - low) / 2
+side, size = (1.0 if middle == low else -1.0), (high - low) / 2
operations: padding of 0 and 1 around signs
-value=(pad.value - b) / k
+value=pad.value
operations: zeros around 0 and 1 are zeros around signs
-if isinstance(reader, Kernel) and b:
+if isinstance(reader, Pad) and b:
operations: a kernel of 0 and -1 is one of 0 and 1
-side, is_one = np.sign(weights.sum()), np.abs(weights) > largest / 2
+side, is_one = 1.0, np.abs(weights) > largest / 2
operations: groups take shifts of their outputs
-shift=sign.shift[taken]
+shift=np.tile(sign.shift, filters)[made]
operations: ones around a map where the padding is not
-around = np.pad(around, pad.sides, constant_values=1.0 - pad.value)
+around = np.pad(around, pad.sides, constant_values=pad.value)
operations: a sign at the border sees 0
-number = max(0.0, float(-np.min(sign.shift)))
+number = 0.0
@ tests/deploy/operations/test_kinds.py
operations: a mean over channels lets factors through
-return through if apart else through & ~_CHANNELS
+return through
@ tests/deploy/operations/test_program.py
operations: readers move, and outputs stay
-outputs = [to.get(output, output) for output in self.outputs]
+outputs = self.outputs
operations: numbers of any count are those of channels
-if numbers.size not in (1, count):
+if not numbers.size:
@ tests/deploy/operations/test_trimming.py
operations: zeros that are not there are left out
-min((known[axis] - reach) % node.strides[axis], after)
+(known[axis] - reach) % node.strides[axis]
@ tests/deploy/test_equal_layers.py
operations: merged kernels are counted twice
-return [*self.lowered.repeated, *_names(repeated_kernels(self.merged))]
+return self.lowered.repeated
@ tests/deploy/operations/test_affine.py -k turned
operations: opposite channels of a file are not undone
-origins[sign.y] = Origin((bits,), partial(np.multiply, turn))
+origins[sign.y] = Origin((bits,), np.asarray)
@ tests/deploy/test_batch_and_calls.py
verify: an example may depend on the others
-if not any(map(differ, made, _predicted(model, copies, size))):
+if size:
verify: examples with time folded into them are no cut
-return bool(shape[0] % size == 0)
+return bool(shape[0] == size)
opening: what the call of a subclass does more is dropped
-    return has_graph and type(model).call in _PLAIN
+    return has_graph
@ tests/deploy/verify/test_verify.py -k border
operations: a border is a sign of the model
-slice(before, -after or None)
+slice(0, -(before + after) or None)
@ tests/deploy/verify/test_planted.py -k inside_a_file
verify: a threshold in a file is one more
-wrong = (numbers < 0) != (counts > thresholds)
+wrong = (numbers < 0) != (counts >= thresholds)
@ tests/deploy/test_traced.py -k any_step
verify: signs of two maps are compared with those of one
-difference = first - second[0] if second else first
+difference = first
@ tests/deploy/test_prepared.py
prepared: the shift of a sign counts twice
-sign = alias(sign, shift=None, offset=0.0)
+pass
prepared: binary kernels are trained
-trainable = not fixed and bool(layer and layer.trainable_weights)
+trainable = bool(layer and layer.trainable_weights)
@ tests/deploy/test_packed.py
packed: the border of opposite signs
-pad_values=-value if turned.any() else value,
+pad_values=value,
packed: opposite signs are no more at 0
-else np.tile(at.edge(), channels // at.value.size),
+else np.tile(at.value, channels // at.value.size),
packed: a scale after a ReLU stays there
-tuple(rule for rule in RULES if rule is not scale_after_relu)
+RULES
@ tests/deploy/lite/test_lce_faults.py
limits: maps as large as the kernel
-all(s >= r for s, r in zip(size, reach, strict=True))
+all(s > r for s, r in zip(size, reach, strict=True))
@ tests/deploy/verify/test_segments.py
segments: NaN agrees with everything
-away[np.isnan(away)] = np.inf
+away[np.isnan(away)] = 0
@ tests/deploy/audit/test_work.py
audit: idle bits are multiplied
-channels = min(self.options["channels_in"], 32 * words)
+channels = 32 * words
audit: memory of what nobody reads again
-last.get(i, -1) > place
+last.get(i, -1) >= place
@ tests/deploy/int8/test_kernel_axes.py
int8: one step for all channels
-axes = {"MatMul": (), "Conv2D": (3,),
+axes = {"MatMul": (), "Conv2D": (),
int8: a transposed kernel in steps of its input channels
-_in_steps(weights.value, (2,))
+_in_steps(weights.value, (3,))
@ tests/deploy/int8/test_int8.py
int8: outputs that are read again are no copies
-if value.dtype.is_floating and program.readers(value):
+if value.dtype.is_string and program.readers(value):
int8: zeros around signs in int8
-if not any(x.is_a(Range, Affine) for x in program.readers(node.y)):
+if not any(x.is_a(Affine) for x in program.readers(node.y)):
int8: the range of a mean before its reshape
-maker.type == "Mean"
+maker.type == "Max"
int8: maps in steps twice as large
-float(self.high - self.low) / 255
+float(self.high - self.low) / 100
@ tests/deploy/test_litert.py
int8: a sign saturates in steps that are too large
-least = np.ceil(np.round(-self.shift / step, 6))
+least = np.floor(np.round(-self.shift / step, 6))
int8: the affine operation of a concatenation without its shift
-Affine(f"{node.name}_{i}", (part,), (part.like(),), k, b)
+Affine(f"{node.name}_{i}", (part,), (part.like(),), k)
@ tests/deploy/int8/test_fake_quantize.py
int8: shift of a scaled sign
-sign.shift / sign.scale)
+sign.shift)
int8: range of the last batch
-zip(roots, np.mean(ends, axis=0), strict=True)
+zip(roots, np.mean(ends[-1:], axis=0), strict=True)
@ tests/deploy/lite/test_converter.py
lite: outputs in the converter's order
-[outputs[name] for name in io.outputs]
+sorted(outputs.values())
@ tests/deploy/device/test_benchmark.py
phone: times of the warm-up
-map(float, counts[-1])
+map(float, counts[0])
benchmark: the warm-up is timed
-return seconds[:, warmup:]
+return seconds[:, :runs]
@ tests/deploy/device/test_preprocessing.py
preprocessing: brightness of blue and red swapped
-LUMA = (299, 587, 114)
+LUMA = (114, 587, 299)
@ tests/deploy/test_shared_layers.py
float: a use that is binary stays float, too
-others = [use for use in trace.kernels if use.op.name not in known]
+others = list(trace.kernels)
@ tests/deploy/test_model_checks.py
float: whatever reads no sign of its own reads numbers
-bits[use.op.name] = min(bits[use.op.name], _bits_of_numbers(numbers))
+bits[use.op.name] = min(bits[use.op.name], 32)
@ tests/deploy/test_silent_float.py
float: of layers that declare nothing, nothing is said
-return 1 if has_two_values(use) else _bits_of_kernel(layers.get(use.layer))
+return _bits_of_kernel(layers.get(use.layer))
float: for LiteRT nothing is said
-return [found for found, is_binary in in_float if is_binary]
+return []
@ tests/deploy/operations/test_estimators.py
estimators: a part of a sum is forgotten
-terms[value] = terms.get(value, 0.0) + k * factor
+terms[value] = k * factor
estimators: a sum is not taken from what is exact
-if op.name in sums and has_examples(op.outputs[0], self.io.batch_size):
+if False:
@ tests/deploy/verify/test_segments.py
segments: what a processor takes for 0 differs from 0
-wrong = away > allowed + floor + _NOTHING
+wrong = away > allowed + floor
@ tests/deploy/verify/test_ties.py
noise: a binary convolution rounds as its sums alone do
-_OF_COUNTS = 1 / 8
+_OF_COUNTS = 0.0
@ tests/deploy/lite/test_lce_faults.py
keep apart: constants are fused whatever their shape
-apart = [x for x in node.reads if wide and _is_after_binary(program, x)]
+apart = []
trace: a constant waits for what a function waits for
-node.input[:] = [name for name in node.input if not name.startswith("^")]
+node.input[:] = list(node.input)
@ tests/deploy/test_traced.py
convert: work of a whole batch
-binary_macs=audit.binary_macs // batch_size,
+binary_macs=audit.binary_macs,
# the command line
@ tests/cli/test_commands.py
options: defaults win over the recipe
-return {name for name in names if ctx.get_parameter_source(name) is not usual}
+return {*names}
@ tests/cli/test_compare_command.py
compare: failed runs end well
-    if failed:
-        context.exit(1)
+    if failed:
+        context.exit(0)
@ tests/training/test_stopping.py
errors: exit code of a terminated command
-number = signal.SIGINT if ctrl_c else signal.SIGTERM
+number = signal.SIGINT
@ tests/training/test_stopping.py tests/training/test_crash.py tests/cli
errors: epochs that were never kept
-is saved up to {last}." if last else ""
+is saved up to {last}."
# what all parts stand on
@ tests/quantizers/test_rejected.py
checks: open intervals closed
-above = number >= low if interval[0] == "[" else number > low
+above = number >= low
@ tests/surgery/test_statistics_refusals.py
checks: examples without labels
-if len(set(lengths)) > 1:
+if len(set(lengths)) > 2:
@ tests/test_package.py
files: written files are private
-os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
+os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
@ tests/test_contract.py -k files
keras: unknown by the bare name in .h5 files
-objects.update(dict.fromkeys(bare, cls))
+objects.update(dict.fromkeys(bare[1:], cls))
@ tests/test_contract.py -k gradients and FilterResponseNormalization
math: double precision is lost
-return x if x.dtype == tf.float64 else tf.cast(x, tf.float32)
+return tf.cast(x, tf.float32)
"""


def _read(text: str) -> tuple[Fault, ...]:
    faults: list[dict] = []
    tests = only = ""
    for line in filter(None, text.splitlines()):
        mark, rest = line[0], line[1:]
        if mark == "@":
            tests, _, only = rest.strip().partition(" -k ")
        elif mark in "-+":
            faults[-1]["old" if mark == "-" else "new"].append(rest)
        elif mark != "#":
            faults.append(
                {"name": line, "old": [], "new": [], "tests": tests, "only": only}
            )
    for each in faults:
        each["old"], each["new"] = "\n".join(each["old"]), "\n".join(each["new"])
    return tuple(Fault(**each) for each in faults)


FAULTS = _read(_WRITTEN)
