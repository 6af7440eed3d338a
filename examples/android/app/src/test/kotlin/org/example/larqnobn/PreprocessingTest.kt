package org.example.larqnobn

import org.json.JSONArray
import org.json.JSONObject
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Test

/** Compares with what the Python reference wrote to expected.json. */
class PreprocessingTest {
    private val cases = JSONArray(javaClass.getResource("/expected.json")!!.readText())

    @Test
    fun imagesAreThoseOfPython() {
        for (case in objects(cases)) {
            val image = case.getJSONArray("image")
            val expected = FloatArray(image.length()) { image.getDouble(it).toFloat() }
            val card = Card.parse(case.getJSONObject("card").toString())
            val found = card.preprocessing.apply(JsonPicture(case.getJSONArray("picture")))
            assertArrayEquals(expected, found, 0f)
        }
    }

    @Test
    fun cardsHoldLabelsAndSizes() {
        val card = Card.parse(cases.getJSONObject(0).getJSONObject("card").toString())
        assertEquals("three", card.label(3))
        assertEquals("class 4", card.label(4))
        assertEquals(123, card.sizeBytes)
    }

    private fun objects(list: JSONArray) = List(list.length()) { list.getJSONObject(it) }
}

/** Rows of 0xRRGGBB. */
private class JsonPicture(private val rows: JSONArray) : Picture {
    override val width = rows.getJSONArray(0).length()
    override val height = rows.length()

    override fun readRow(y: Int, into: IntArray) {
        for (x in 0 until width) into[x] = rows.getJSONArray(y).getInt(x)
    }
}
