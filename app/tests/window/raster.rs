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

    fn triangle(&mut self, corners: [Vertex; 3], texture: &Texture, clip: [Pos2; 2], scale: f32) {
        let [a, b, c] = corners.map(|corner| corner.pos * scale);
        let area = cross(a, b, c);
        if area == 0.0 {
            return;
        }
        let bound = |low: f32, high: f32, limit: usize| {
            (low.round().max(0.0) as usize).min(limit)..(high.round().max(0.0) as usize).min(limit)
        };
        let xs = [a.x, b.x, c.x];
        let ys = [a.y, b.y, c.y];
        let least = |values: [f32; 3]| values.into_iter().fold(f32::INFINITY, f32::min);
        let most = |values: [f32; 3]| values.into_iter().fold(f32::NEG_INFINITY, f32::max);
        let columns = bound(least(xs).max(clip[0].x) - 0.5, most(xs).min(clip[1].x) + 0.5, self.width);
        let rows = bound(least(ys).max(clip[0].y) - 0.5, most(ys).min(clip[1].y) + 0.5, self.height);
        let colours = corners.map(|corner| corner.color.to_array().map(f32::from));
        for y in rows {
            for x in columns.clone() {
                let at = Pos2::new(x as f32 + 0.5, y as f32 + 0.5);
                if at.x < clip[0].x || at.x > clip[1].x || at.y < clip[0].y || at.y > clip[1].y {
                    continue;
                }
                let edges = [(b, c), (c, a), (a, b)].map(|(from, to)| (cross(from, to, at) / area, from, to));
                if edges.iter().any(|(weight, from, to)| *weight < 0.0 || (*weight == 0.0 && !owns(*from, *to, area))) {
                    continue;
                }
                let weights = edges.map(|(weight, ..)| weight);
                let mix = |of: &dyn Fn(usize) -> f32| (0..3).map(|i| weights[i] * of(i)).sum::<f32>();
                let u = mix(&|i| corners[i].uv.x);
                let v = mix(&|i| corners[i].uv.y);
                let texel = sample(texture, u, v);
                let source: [f32; 4] = std::array::from_fn(|channel| mix(&|i| colours[i][channel]) * texel[channel]);
                let pixel = &mut self.pixels[y * self.width + x];
                for channel in 0..3 {
                    pixel[channel] = source[channel] + pixel[channel] * (1.0 - source[3] / 255.0);
                }
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

/// Of two triangles that share an edge exactly one owns the pixels on it.
fn owns(from: Pos2, to: Pos2, area: f32) -> bool {
    let (dx, dy) = if area > 0.0 { (to.x - from.x, to.y - from.y) } else { (from.x - to.x, from.y - to.y) };
    dy < 0.0 || (dy == 0.0 && dx > 0.0)
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
