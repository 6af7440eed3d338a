package org.example.larqnobn

import android.graphics.Bitmap
import android.graphics.ColorSpace
import android.graphics.ImageDecoder
import android.net.Uri
import android.os.Bundle
import android.widget.Button
import android.widget.ImageView
import android.widget.TextView
import androidx.activity.ComponentActivity
import androidx.activity.result.PickVisualMediaRequest
import androidx.activity.result.contract.ActivityResultContracts.PickVisualMedia
import java.io.IOException
import java.util.concurrent.Executors

/** Lets the user choose a picture, and shows what the network takes it for. */
class MainActivity : ComponentActivity() {
    private val worker = Executors.newSingleThreadExecutor()
    private val classifier = lazy { Classifier(assets, threads = 2) }
    private val chooser = registerForActivityResult(PickVisualMedia()) { uri ->
        if (uri != null) worker.execute { classify(uri) }
    }

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContentView(R.layout.activity_main)
        findViewById<Button>(R.id.pick).setOnClickListener {
            chooser.launch(PickVisualMediaRequest(PickVisualMedia.ImageOnly))
        }
    }

    override fun onDestroy() {
        worker.execute { if (classifier.isInitialized()) classifier.value.close() }
        worker.shutdown()
        super.onDestroy()
    }

    private fun classify(uri: Uri) {
        val bitmap = try {
            decoded(uri)
        } catch (error: IOException) {
            runOnUiThread { show(null, getString(R.string.unreadable)) }
            return
        }
        val answer = classifier.value.classify(BitmapPicture(bitmap))
        val lines = answer.guesses.map { "%s  %.1f %%".format(it.label, 100 * it.probability) }
        val text = (lines + "%.1f ms".format(answer.milliseconds)).joinToString("\n")
        runOnUiThread { show(bitmap, text) }
    }

    private fun decoded(uri: Uri): Bitmap {
        val source = ImageDecoder.createSource(contentResolver, uri)
        return ImageDecoder.decodeBitmap(source) { decoder, _, _ ->
            decoder.allocator = ImageDecoder.ALLOCATOR_SOFTWARE // pixels can be read
            decoder.setTargetColorSpace(ColorSpace.get(ColorSpace.Named.SRGB))
        }
    }

    private fun show(bitmap: Bitmap?, text: String) {
        findViewById<ImageView>(R.id.picture).setImageBitmap(bitmap)
        findViewById<TextView>(R.id.answer).text = text
    }
}

private class BitmapPicture(private val bitmap: Bitmap) : Picture {
    override val width = bitmap.width
    override val height = bitmap.height

    override fun readRow(y: Int, into: IntArray) = bitmap.getPixels(into, 0, width, 0, y, width, 1)
}
