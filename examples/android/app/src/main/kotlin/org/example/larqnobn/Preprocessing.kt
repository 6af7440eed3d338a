package org.example.larqnobn

import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min

/** A picture that gives its pixels row by row, each as 0xAARRGGBB. */
interface Picture {
    val width: Int
    val height: Int

    fun readRow(y: Int, into: IntArray)
}

/**
 * What larq_nobn.deploy.Preprocessing does, with the same numbers, bit for bit.
 *
 * Each pixel of the image is the mean of the pixels of the picture that it touches in the
 * middle of the picture: whole numbers are added, and divided once. Then follow a product
 * and a difference in Float.
 */
class Preprocessing(
    val height: Int,
    val width: Int,
    private val crop: Double,
    mean: FloatArray,
    std: FloatArray,
) {
    val channels = mean.size
    private val scale = FloatArray(channels) { 1f / (255f * std[it]) }
    private val shift = FloatArray(channels) { mean[it] / std[it] }

    /** Returns height x width x channels numbers, the channels of a pixel together. */
    fun apply(picture: Picture): FloatArray {
        val rows = kept(min(picture.height, picture.width * height / width))
        val columns = kept(min(picture.width, picture.height * width / height))
        val top = (picture.height - rows) / 2
        val left = (picture.width - columns) / 2
        val line = IntArray(picture.width)
        val image = FloatArray(height * width * channels)
        for (i in 0 until height) {
            val down = touched(i, rows, height)
            val sums = LongArray(width * channels)
            for (y in down) {
                picture.readRow(top + y, line)
                for (j in 0 until width) {
                    for (x in touched(j, columns, width)) add(line[left + x], sums, j * channels)
                }
            }
            for (j in 0 until width) {
                val count = size(down).toLong() * size(touched(j, columns, width)) * UNIT
                for (c in 0 until channels) {
                    val x = (sums[j * channels + c].toDouble() / count).toFloat()
                    image[(i * width + j) * channels + c] = x * scale[c] - shift[c]
                }
            }
        }
        return image
    }

    private fun kept(count: Int) = max(1, floor(crop * count).toInt())

    /** Which of `count` pixels in a row the one at `index` of `size` touches. */
    private fun touched(index: Int, count: Int, size: Int) =
        index * count / size until ((index + 1) * count + size - 1) / size

    private fun size(range: IntRange) = range.last - range.first + 1

    private fun add(pixel: Int, sums: LongArray, at: Int) {
        val red = pixel shr 16 and 255
        val green = pixel shr 8 and 255
        val blue = pixel and 255
        if (channels == 1) {
            sums[at] += 299L * red + 587L * green + 114L * blue // brightness, ITU-R BT.601
        } else {
            sums[at] += UNIT * red
            sums[at + 1] += UNIT * green
            sums[at + 2] += UNIT * blue
        }
    }

    private companion object {
        const val UNIT = 1000L
    }
}
