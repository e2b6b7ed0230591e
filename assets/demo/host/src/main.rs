//! The demo program: opens the scene library that lies beside it and shows the scene, in a window or as lines of text.
//!
//! Everything it takes from the library it takes once, at the start: two plain function pointers and one boxed trait object.
//! It knows nothing of reloading.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use demo_stage::{Backdrop, Create, Scene, Tick};
use libloading::Library;

mod headless;
mod window;

const USAGE: &str = "usage: demo [--headless] [--ticks N] [--interval MILLISECONDS] [--library PATH]";

type Error = Box<dyn std::error::Error>;

/// What the command line says.
struct Options {
    headless: bool,
    /// Stop after so many ticks.
    ticks: Option<u64>,
    /// Between two ticks.
    interval: Duration,
    library: PathBuf,
}

/// What the program holds of the library.
pub struct Stage {
    scene: Box<dyn Scene>,
    tick: Tick,
    backdrop: Backdrop,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Error> {
    let Some(options) = options(std::env::args().skip(1))? else {
        println!("{USAGE}");
        return Ok(());
    };
    let stage = open(&options.library)?;
    if options.headless { headless::run(stage, &options) } else { window::run(stage, &options) }
}

/// The options, or `None` where only help was asked for.
fn options(mut arguments: impl Iterator<Item = String>) -> Result<Option<Options>, Error> {
    let mut headless = false;
    let mut ticks = None;
    let mut interval = None;
    let mut library = None;
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value\n{USAGE}"));
        match argument.as_str() {
            "--headless" => headless = true,
            "--ticks" => ticks = Some(value()?.parse()?),
            "--interval" => interval = Some(value()?.parse()?),
            "--library" => library = Some(PathBuf::from(value()?)),
            "--help" | "-h" => return Ok(None),
            other => return Err(format!("unknown argument `{other}`\n{USAGE}").into()),
        }
    }
    let interval = Duration::from_millis(interval.unwrap_or(if headless { 100 } else { 16 }));
    let library = match library {
        Some(path) => path,
        None => std::env::current_exe()?.with_file_name("libdemo_scene.so"),
    };
    Ok(Some(Options { headless, ticks, interval, library }))
}

fn open(path: &Path) -> Result<Stage, Error> {
    let missing = |error| format!("{}: {error}\nbuild it with `cargo build` in the demo's folder", path.display());
    // SAFETY: the scene library's initialisers are those of an ordinary Rust cdylib.
    let library: &'static Library = Box::leak(Box::new(unsafe { Library::new(path) }.map_err(missing)?));
    // SAFETY: `demo-stage`, which both sides are built from, states the three types; the library is never unloaded. Both
    // sides come from one workspace and so from one compiler, with the system's allocator.
    let (create, tick, backdrop) = unsafe {
        (
            *library.get::<Create>("scene_create").map_err(missing)?,
            *library.get::<Tick>("scene_tick").map_err(missing)?,
            *library.get::<Backdrop>("scene_backdrop").map_err(missing)?,
        )
    };
    Ok(Stage { scene: create(), tick, backdrop })
}
