package org.example.larqnobn

import android.content.res.AssetManager
import java.io.FileInputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel
import kotlin.math.exp
import kotlin.math.round
import org.tensorflow.lite.DataType
import org.tensorflow.lite.Interpreter
import org.tensorflow.lite.Tensor

/** A class with its share of the certainty. */
data class Guess(val label: String, val probability: Float)

/** The likeliest classes, best first, and how long the network took. */
data class Answer(val guesses: List<Guess>, val milliseconds: Double)

/** Runs `model.tflite` with Larq Compute Engine. Not for several threads at once. */
class Classifier(assets: AssetManager, threads: Int) : AutoCloseable {
    private val card =
        Card.parse(assets.open("$MODEL.json").bufferedReader().use { it.readText() })
    private val interpreter: Interpreter

    init {
        val model = mapped(assets)
        check(model.capacity() == card.sizeBytes) { "$MODEL and its JSON do not belong together." }
        interpreter = Interpreter(model, Interpreter.Options().setNumThreads(threads))
    }

    fun classify(picture: Picture, guesses: Int = 3): Answer {
        val input = interpreter.getInputTensor(0)
        val output = interpreter.getOutputTensor(0)
        val image = encoded(card.preprocessing.apply(picture), input)
        val result = buffer(output)
        val start = System.nanoTime()
        interpreter.run(image, result)
        val milliseconds = (System.nanoTime() - start) / 1e6
        val scores = decoded(result, output)
        val probabilities = if (card.areLogits) softmax(scores) else scores
        val best = probabilities.indices.sortedByDescending { probabilities[it] }.take(guesses)
        return Answer(best.map { Guess(card.label(it), probabilities[it]) }, milliseconds)
    }

    override fun close() = interpreter.close()

    private companion object {
        const val MODEL = "model.tflite"

        fun mapped(assets: AssetManager): ByteBuffer =
            assets.openFd(MODEL).use { asset ->
                val (start, length) = asset.startOffset to asset.declaredLength
                FileInputStream(asset.fileDescriptor).channel.use { channel ->
                    channel.map(FileChannel.MapMode.READ_ONLY, start, length)
                }
            }

        fun buffer(tensor: Tensor): ByteBuffer =
            ByteBuffer.allocateDirect(tensor.numBytes()).order(ByteOrder.nativeOrder())

        fun encoded(values: FloatArray, tensor: Tensor): ByteBuffer {
            val bytes = buffer(tensor)
            val steps = tensor.quantizationParams()
            val least = if (tensor.dataType() == DataType.UINT8) 0f else -128f
            for (value in values) {
                if (tensor.dataType() != DataType.FLOAT32) {
                    val step = round(value / steps.scale) + steps.zeroPoint
                    bytes.put(step.coerceIn(least, least + 255f).toInt().toByte())
                } else {
                    bytes.putFloat(value)
                }
            }
            bytes.rewind()
            return bytes
        }

        fun decoded(bytes: ByteBuffer, tensor: Tensor): FloatArray {
            bytes.rewind()
            val steps = tensor.quantizationParams()
            return FloatArray(tensor.numElements()) {
                if (tensor.dataType() != DataType.FLOAT32) {
                    val byte = bytes.get().toInt()
                    val step = if (tensor.dataType() == DataType.UINT8) byte and 255 else byte
                    (step - steps.zeroPoint) * steps.scale
                } else {
                    bytes.getFloat()
                }
            }
        }

        fun softmax(logits: FloatArray): FloatArray {
            val largest = logits.max()
            val powers = FloatArray(logits.size) { exp(logits[it] - largest) }
            val sum = powers.sum()
            return FloatArray(logits.size) { powers[it] / sum }
        }
    }
}
