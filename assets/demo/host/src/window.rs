//! The scene in a window.

use std::{
    num::NonZeroU32,
    rc::Rc,
    time::{Duration, Instant},
};

use demo_stage::Canvas;
use softbuffer::{Context, Surface};
use winit::{
    application::ApplicationHandler,
    dpi::{LogicalPosition, LogicalSize, PhysicalPosition},
    event::{ElementState, MouseButton, StartCause, WindowEvent},
    event_loop::{ActiveEventLoop, ControlFlow, EventLoop, OwnedDisplayHandle},
    window::{Window, WindowId},
};

use crate::{Error, Options, Stage};

/// The backdrop's tiles, in pixels.
const TILE: usize = 8;

pub fn run(stage: Stage, options: &Options) -> Result<(), Error> {
    // winit's own message names a file of its source; what the user can act on is the environment.
    let no_window = |what: &str| format!("{what}\nstart it with --headless to see its state as text");
    let unset = ["DISPLAY", "WAYLAND_DISPLAY", "WAYLAND_SOCKET"].iter().all(|name| std::env::var_os(name).is_none());
    if unset {
        return Err(no_window("no window system: neither DISPLAY nor WAYLAND_DISPLAY is set").into());
    }
    let event_loop = EventLoop::new().map_err(|_| no_window("the window system does not answer; is DISPLAY right?"))?;
    let context = Context::new(event_loop.owned_display_handle()).map_err(|error| no_window(&error.to_string()))?;
    let mut show = Show {
        stage,
        context,
        view: None,
        pointer: PhysicalPosition::default(),
        interval: options.interval,
        next: Instant::now(),
        ticks: 0,
        left: options.ticks,
        failure: None,
    };
    event_loop.run_app(&mut show)?;
    show.failure.map_or(Ok(()), Err)
}

struct Show {
    stage: Stage,
    context: Context<OwnedDisplayHandle>,
    view: Option<View>,
    pointer: PhysicalPosition<f64>,
    interval: Duration,
    /// When the next tick is due.
    next: Instant,
    ticks: u64,
    /// Ticks to go.
    left: Option<u64>,
    failure: Option<Error>,
}

/// The window and what is drawn into it.
struct View {
    window: Rc<Window>,
    surface: Surface<OwnedDisplayHandle, Rc<Window>>,
}

impl Show {
    fn open(&mut self, event_loop: &ActiveEventLoop) -> Result<View, Error> {
        // Where the window system lets a program choose: at the left, to leave room for a window beside it.
        let attributes = Window::default_attributes()
            .with_title("Demo scene")
            .with_inner_size(LogicalSize::new(640, 420))
            .with_position(LogicalPosition::new(32, 48));
        let window = Rc::new(event_loop.create_window(attributes)?);
        let surface = Surface::new(&self.context, window.clone())?;
        Ok(View { window, surface })
    }

    fn advance(&mut self) {
        let Some(view) = &self.view else { return };
        let size = view.window.inner_size();
        self.ticks = (self.stage.tick)();
        self.stage.scene.advance(size.width as f32, size.height as f32);
        view.window.request_redraw();
    }

    fn draw(&mut self) -> Result<(), Error> {
        let Some(view) = &mut self.view else { return Ok(()) };
        let size = view.window.inner_size();
        let (Some(width), Some(height)) = (NonZeroU32::new(size.width), NonZeroU32::new(size.height)) else {
            return Ok(());
        };
        view.surface.resize(width, height)?;
        let mut pixels = view.surface.buffer_mut()?;
        let (width, height) = (size.width as usize, size.height as usize);
        for (row, tiles) in pixels.chunks_mut(width * TILE).enumerate() {
            for column in 0..width.div_ceil(TILE) {
                let colour = (self.stage.backdrop)(column as u32, row as u32, self.ticks);
                for line in tiles.chunks_mut(width) {
                    line[column * TILE..((column + 1) * TILE).min(width)].fill(colour);
                }
            }
        }
        self.stage.scene.draw(&mut Canvas { pixels: &mut pixels, width, height });
        pixels.present()?;
        Ok(())
    }

    fn end(&mut self, event_loop: &ActiveEventLoop, failure: Error) {
        self.failure = Some(failure);
        event_loop.exit();
    }
}

impl ApplicationHandler for Show {
    fn resumed(&mut self, event_loop: &ActiveEventLoop) {
        match self.open(event_loop) {
            Ok(view) => self.view = Some(view),
            Err(error) => self.end(event_loop, error),
        }
    }

    fn new_events(&mut self, event_loop: &ActiveEventLoop, _: StartCause) {
        let now = Instant::now();
        if now >= self.next {
            if self.left == Some(0) {
                return event_loop.exit();
            }
            self.left = self.left.map(|left| left - 1);
            self.next = now + self.interval;
            self.advance();
        }
        event_loop.set_control_flow(ControlFlow::WaitUntil(self.next));
    }

    fn window_event(&mut self, event_loop: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
        match event {
            WindowEvent::CloseRequested => event_loop.exit(),
            WindowEvent::RedrawRequested => {
                if let Err(error) = self.draw() {
                    self.end(event_loop, error);
                }
            }
            WindowEvent::CursorMoved { position, .. } => self.pointer = position,
            WindowEvent::MouseInput { state: ElementState::Pressed, button: MouseButton::Left, .. } => {
                self.stage.scene.touch(self.pointer.x as f32, self.pointer.y as f32);
            }
            _ => {}
        }
    }
}
