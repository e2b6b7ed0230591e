//! What the demo's program and its scene library agree on: a canvas, and the trait through which the program holds a scene.
//!
//! Deliberately absent: any behaviour. That lives in `demo-scene`, which is the library to edit.

/// The picture of one frame: `0x00RRGGBB` pixels, row by row from the top left.
pub struct Canvas<'a> {
    pub pixels: &'a mut [u32],
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
}

/// A scene, made once when the program starts and then kept.
pub trait Scene {
    /// Moves everything on by one tick inside a field of `width` x `height` pixels.
    fn advance(&mut self, width: f32, height: f32);
    /// Draws over the backdrop.
    fn draw(&self, canvas: &mut Canvas<'_>);
    /// The user clicked at this pixel.
    fn touch(&mut self, x: f32, y: f32);
    /// The whole state in one line, `name=value` with spaces between.
    fn status(&self) -> String;
}

/// `scene_create`: makes the scene and starts the library's own thread.
pub type Create = fn() -> Box<dyn Scene>;

/// `scene_backdrop`: the colour behind the scene at one tile of the picture; called thousands of times a frame.
pub type Backdrop = extern "C" fn(column: u32, row: u32, tick: u64) -> u32;

/// `scene_tick`: counts one tick and returns the new count.
pub type Tick = extern "C" fn() -> u64;
