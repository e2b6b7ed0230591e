//! The few strokes the scene needs: discs and text on a canvas of pixels. No state.

use demo_stage::Canvas;
use font8x8::legacy::BASIC_LEGACY;

/// `0x00RRGGBB` of three channels, each at most 255.
pub fn rgb(red: u32, green: u32, blue: u32) -> u32 {
    red << 16 | green << 8 | blue
}

/// A filled disc; `opacity` from 0 to 1.
pub fn disc(canvas: &mut Canvas<'_>, x: f32, y: f32, radius: f32, colour: u32, opacity: f32) {
    let rows = span(y - radius, y + radius, canvas.height);
    for row in rows {
        let dy = row as f32 + 0.5 - y;
        let half = (radius * radius - dy * dy).max(0.0).sqrt();
        let columns = span(x - half, x + half, canvas.width);
        let start = row * canvas.width;
        for pixel in &mut canvas.pixels[start + columns.start..start + columns.end] {
            *pixel = blend(*pixel, colour, opacity);
        }
    }
}

/// Text of 8x8 pixel letters, each pixel drawn `scale` times as large.
pub fn text(canvas: &mut Canvas<'_>, x: usize, y: usize, scale: usize, text: &str, colour: u32) {
    for (index, letter) in text.chars().enumerate() {
        let glyph = BASIC_LEGACY.get(letter as usize).copied().unwrap_or(BASIC_LEGACY['?' as usize]);
        for (row, bits) in glyph.iter().enumerate() {
            for column in (0..8).filter(|column| bits >> column & 1 == 1) {
                square(canvas, x + (index * 8 + column) * scale, y + row * scale, scale, colour);
            }
        }
    }
}

fn square(canvas: &mut Canvas<'_>, x: usize, y: usize, size: usize, colour: u32) {
    for row in y..(y + size).min(canvas.height) {
        for column in x..(x + size).min(canvas.width) {
            canvas.pixels[row * canvas.width + column] = colour;
        }
    }
}

/// The pixels between two coordinates that lie inside `0..extent`.
fn span(low: f32, high: f32, extent: usize) -> std::ops::Range<usize> {
    let limit = extent as f32;
    let start = low.round().clamp(0.0, limit) as usize;
    start..(high.round().clamp(0.0, limit) as usize).max(start)
}

fn blend(below: u32, above: u32, opacity: f32) -> u32 {
    let channel = |shift: u32| {
        let (below, above) = ((below >> shift & 255) as f32, (above >> shift & 255) as f32);
        ((below + (above - below) * opacity) as u32) << shift
    };
    channel(16) | channel(8) | channel(0)
}
