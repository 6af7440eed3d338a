import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    id("com.android.application")
    id("org.jetbrains.kotlin.android")
}

android {
    namespace = "org.example.larqnobn"
    compileSdk = 35

    defaultConfig {
        applicationId = "org.example.larqnobn"
        minSdk = 28 // ImageDecoder, which turns pictures the right way up
        targetSdk = 35
        versionCode = 1
        versionName = "1.0"
        // What LCE's library is built for; only arm64-v8a is optimized.
        ndk { abiFilters += listOf("arm64-v8a", "x86_64") }
    }
    // A compressed file cannot be mapped into memory.
    androidResources { noCompress += "tflite" }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
}

kotlin { compilerOptions { jvmTarget.set(JvmTarget.JVM_17) } }

dependencies {
    // TensorFlow Lite with LCE's operations. It takes the place of
    // org.tensorflow:tensorflow-lite, which must not come in beside it.
    implementation(files("libs/lce-lite.aar"))
    implementation("androidx.activity:activity-ktx:1.9.3")
    testImplementation("junit:junit:4.13.2")
    testImplementation("org.json:json:20240303") // Android's own is not there in tests
}
