//! The scene without a window: its state as one line per tick.

use std::{
    io::{self, Write},
    thread,
};

use crate::{Error, Options, Stage};

/// A field as large as the window.
const FIELD: (f32, f32) = (960.0, 600.0);

pub fn run(mut stage: Stage, options: &Options) -> Result<(), Error> {
    let mut done = 0;
    while options.ticks.is_none_or(|limit| done < limit) {
        let tick = (stage.tick)();
        stage.scene.advance(FIELD.0, FIELD.1);
        // As often as the window does: the backdrop is the call that a reload meets most.
        let shade = (0..1_000).fold(0, |shade, tile| shade ^ (stage.backdrop)(tile % 40, tile / 40, tick));
        match writeln!(io::stdout(), "{} shade={shade:06x}", stage.scene.status()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
        done += 1;
        thread::sleep(options.interval);
    }
    Ok(())
}
