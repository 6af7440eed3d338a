package org.example.larqnobn

import org.json.JSONArray
import org.json.JSONObject

/** What larq_nobn.convert wrote beside the model, in `model.tflite.json`. */
class Card(
    val sizeBytes: Int,
    val preprocessing: Preprocessing,
    val areLogits: Boolean,
    private val labels: List<String>,
) {
    /** The name of a class, or its number where there are no names. */
    fun label(index: Int) = labels.getOrElse(index) { "class $it" }

    companion object {
        fun parse(text: String): Card {
            val card = JSONObject(text)
            require(card.getString("format") == "larq_nobn card") { "This is no card." }
            require(card.getInt("version") == 1) { "Convert the model again." }
            val steps = card.getJSONObject("preprocessing")
            val mean = floats(steps.getJSONArray("mean"))
            val std = floats(steps.getJSONArray("std"))
            if (card.getJSONObject("input").has("steps")) {
                // The model takes pixels from 0 to 255, and normalizes them itself.
                mean.fill(0f)
                std.fill(1f / 255f)
            }
            return Card(
                sizeBytes = card.getJSONObject("file").getInt("size_bytes"),
                preprocessing = Preprocessing(
                    height = steps.getInt("height"),
                    width = steps.getInt("width"),
                    crop = steps.getDouble("crop"),
                    mean = mean,
                    std = std,
                ),
                areLogits = card.getString("scores") == "logits",
                labels =
                    if (card.isNull("labels")) emptyList() else texts(card.getJSONArray("labels")),
            )
        }

        private fun floats(list: JSONArray) =
            FloatArray(list.length()) { list.getDouble(it).toFloat() }

        private fun texts(list: JSONArray) = List(list.length()) { list.getString(it) }
    }
}
