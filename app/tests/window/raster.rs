//! Draws a frame's triangles on the CPU, so that pictures of the window need neither a GPU nor a display.

use std::collections::HashMap;

use eframe::egui::{
    Color32, Context, FullOutput, ImageData, Pos2, TextureId, TexturesDelta,
    epaint::{ClippedPrimitive, Mesh, Primitive, Vertex},
};
use egui_kittest::TestRenderer;
use image::{Rgba, RgbaImage};

#[derive(Default)]
pub struct Raster {
    textures: HashMap<TextureId, ([usize; 2], Vec<Color32>)>,
}

impl TestRenderer for Raster {
    fn handle_delta(&mut self, delta: &mut TexturesDelta) {
        for (id, deltas) in delta.set.drain() {
            for delta in deltas {
                let ImageData::Color(patch) = delta.image;
                let [width, height] = patch.size;
                let Some([left, top]) = delta.pos else {
                    self.textures.insert(id, (patch.size, patch.pixels.clone()));
                    continue;
                };
                let (size, pixels) = self.textures.get_mut(&id).expect("a patch follows the whole texture");
                for y in 0..height {
                    let start = (top + y) * size[0] + left;
                    pixels[start..start + width].copy_from_slice(&patch.pixels[y * width..(y + 1) * width]);
                }
            }
        }
        for id in delta.free.drain() {
            self.textures.remove(&id);
        }
    }

    fn render(&mut self, context: &Context, output: &FullOutput) -> Result<RgbaImage, String> {
        let scale = output.pixels_per_point;
        let size = context.content_rect().size() * scale;
        let mut canvas = Canvas::new(size.x.round() as usize, size.y.round() as usize);
        for ClippedPrimitive { clip_rect, primitive } in context.tessellate(output.shapes.clone(), scale) {
            if let Primitive::Mesh(mesh) = primitive {
                let texture = self.textures.get(&mesh.texture_id).ok_or("unknown texture")?;
                let clip = [clip_rect.min * scale, clip_rect.max * scale];
                canvas.mesh(&mesh, texture, clip, scale);
            }
        }
        Ok(canvas.into_image())
    }
}

type Texture = ([usize; 2], Vec<Color32>);

struct Canvas {
    width: usize,
    height: usize,
    /// Red, green, blue in gamma space: the window is opaque.
    pixels: Vec<[f32; 3]>,
}

impl Canvas {
    fn new(width: usize, height: usize) -> Canvas {
        Canvas { width, height, pixels: vec![[0.0; 3]; width * height] }
    }

    fn mesh(&mut self, mesh: &Mesh, texture: &Texture, clip: [Pos2; 2], scale: f32) {
        for corners in mesh.indices.chunks_exact(3) {
            let corners = [corners[0], corners[1], corners[2]].map(|index| mesh.vertices[index as usize]);
            self.triangle(corners, texture, clip, scale);
        }
    }

    /// Row by row: a pixel belongs to the triangle its centre lies in, one on a shared edge to the triangle at its right.
    fn triangle(&mut self, corners: [Vertex; 3], texture: &Texture, clip: [Pos2; 2], scale: f32) {
        let [a, b, c] = corners.map(|corner| corner.pos * scale);
        let area = cross(a, b, c);
        if area == 0.0 {
            return;
        }
        let colours = corners.map(|corner| corner.color.to_array().map(f32::from));
        let [first, second, third] = corners;
        let even = (first.color == second.color && second.color == third.color)
            && (first.uv == second.uv && second.uv == third.uv);
        let solid = even.then(|| shade(colours[0], sample(texture, first.uv.x, first.uv.y)));
        let pixel = |at: f32, limit: usize| (((at - 0.5).ceil()).max(0.0) as usize).min(limit);
        let top = a.y.min(b.y).min(c.y).max(clip[0].y);
        let bottom = a.y.max(b.y).max(c.y).min(clip[1].y);
        for y in pixel(top, self.height)..pixel(bottom, self.height) {
            let Some((left, right)) = span([a, b, c], y as f32 + 0.5) else {
                continue;
            };
            let (left, right) = (pixel(left.max(clip[0].x), self.width), pixel(right.min(clip[1].x), self.width));
            if left >= right {
                continue;
            }
            let row = &mut self.pixels[y * self.width + left..y * self.width + right];
            if let Some(source) = solid {
                for pixel in row {
                    *pixel = over(*pixel, source);
                }
                continue;
            }
            for (x, pixel) in row.iter_mut().enumerate() {
                let at = Pos2::new((left + x) as f32 + 0.5, y as f32 + 0.5);
                let (u, v) = (cross(b, c, at) / area, cross(c, a, at) / area);
                let w = 1.0 - u - v;
                let colour: [f32; 4] =
                    std::array::from_fn(|i| u * colours[0][i] + v * colours[1][i] + w * colours[2][i]);
                let texel = sample(
                    texture,
                    u * first.uv.x + v * second.uv.x + w * third.uv.x,
                    u * first.uv.y + v * second.uv.y + w * third.uv.y,
                );
                *pixel = over(*pixel, shade(colour, texel));
            }
        }
    }

    fn into_image(self) -> RgbaImage {
        RgbaImage::from_fn(self.width as u32, self.height as u32, |x, y| {
            let [r, g, b] = self.pixels[y as usize * self.width + x as usize].map(|value| value.round() as u8);
            Rgba([r, g, b, 255])
        })
    }
}

fn cross(a: Pos2, b: Pos2, c: Pos2) -> f32 {
    (b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x)
}

/// Where the triangle begins and ends at this height.
fn span(corners: [Pos2; 3], y: f32) -> Option<(f32, f32)> {
    let (mut left, mut right) = (f32::INFINITY, f32::NEG_INFINITY);
    for (from, to) in [(corners[0], corners[1]), (corners[1], corners[2]), (corners[2], corners[0])] {
        // From the upper end to the lower one, so that both triangles of an edge agree on where it is.
        let (from, to) = if (from.y, from.x) <= (to.y, to.x) { (from, to) } else { (to, from) };
        if (from.y <= y) != (to.y <= y) {
            let x = from.x + (y - from.y) / (to.y - from.y) * (to.x - from.x);
            left = left.min(x);
            right = right.max(x);
        }
    }
    (left < right).then_some((left, right))
}

fn shade(colour: [f32; 4], texel: [f32; 4]) -> [f32; 4] {
    std::array::from_fn(|i| colour[i] * texel[i])
}

/// Premultiplied, as egui's colours are.
fn over(below: [f32; 3], source: [f32; 4]) -> [f32; 3] {
    let rest = 1.0 - source[3] / 255.0;
    std::array::from_fn(|i| source[i] + below[i] * rest)
}

/// Bilinear, each channel from 0 to 1.
fn sample((size, pixels): &Texture, u: f32, v: f32) -> [f32; 4] {
    let (x, y) = (u * size[0] as f32 - 0.5, v * size[1] as f32 - 0.5);
    let (fx, fy) = (x - x.floor(), y - y.floor());
    let at = |x: f32, y: f32| {
        let x = x.clamp(0.0, size[0] as f32 - 1.0) as usize;
        let y = y.clamp(0.0, size[1] as f32 - 1.0) as usize;
        pixels[y * size[0] + x].to_array().map(|value| f32::from(value) / 255.0)
    };
    let corners = [
        at(x.floor(), y.floor()),
        at(x.floor() + 1.0, y.floor()),
        at(x.floor(), y.floor() + 1.0),
        at(x.floor() + 1.0, y.floor() + 1.0),
    ];
    std::array::from_fn(|i| {
        let upper = corners[0][i] + (corners[1][i] - corners[0][i]) * fx;
        let lower = corners[2][i] + (corners[3][i] - corners[2][i]) * fx;
        upper + (lower - upper) * fy
    })
}
