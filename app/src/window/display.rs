//! Is there a display, and can its libraries be loaded? winit and glutin load them at run time; some of them panic where one
//! is missing. Asked before the window is made, so that the answer is one line with its remedy.

use std::{env, fmt};

/// Why no window can be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    NoDisplay,
    /// Libraries that could not be loaded, and the Debian packages that bring them.
    Libraries {
        missing: Vec<&'static str>,
        packages: Vec<&'static str>,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::NoDisplay => f.write_str(
                "there is no display (neither WAYLAND_DISPLAY nor DISPLAY is set); the commands `list`, `reload`, `watch` \
                 and `run --headless` work without one",
            ),
            Problem::Libraries { missing, packages } => write!(
                f,
                "the window needs {}, which this system lacks; install it with `apt-get install {}`",
                missing.join(", "),
                packages.join(" ")
            ),
        }
    }
}

/// A library and the package that brings it.
type Library = (&'static str, &'static str);

const X11: &[Library] = &[
    ("libX11.so.6", "libx11-6"),
    ("libX11-xcb.so.1", "libx11-xcb1"),
    ("libXcursor.so.1", "libxcursor1"),
    ("libXi.so.6", "libxi6"),
    ("libxkbcommon-x11.so.0", "libxkbcommon-x11-0"),
    ("libxkbcommon.so.0", "libxkbcommon0"),
];

const WAYLAND: &[Library] = &[
    ("libwayland-client.so.0", "libwayland-client0"),
    ("libwayland-egl.so.1", "libwayland-egl1"),
    ("libxkbcommon.so.0", "libxkbcommon0"),
];

/// One of these draws.
const GL: &[Library] = &[("libEGL.so.1", "libegl1"), ("libGL.so.1", "libgl1")];

pub fn check() -> Result<(), Problem> {
    let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let wayland = is_set("WAYLAND_DISPLAY") || is_set("WAYLAND_SOCKET");
    judge(wayland, is_set("DISPLAY"), can_load)
}

/// winit takes Wayland where it is offered, else X11; Wayland needs EGL.
fn judge(wayland: bool, x11: bool, can_load: impl Fn(&str) -> bool) -> Result<(), Problem> {
    let absent = |libraries: &[Library]| -> Vec<Library> {
        libraries.iter().filter(|(library, _)| !can_load(library)).copied().collect()
    };
    let mut missing = match (wayland, x11) {
        (false, false) => return Err(Problem::NoDisplay),
        (true, _) => absent(WAYLAND),
        (false, true) => absent(X11),
    };
    let drawing = absent(GL);
    if wayland {
        missing.extend(drawing.iter().filter(|(library, _)| *library == "libEGL.so.1"));
    } else if drawing.len() == GL.len() {
        missing.push(("libGL.so.1", "libgl1"));
    }
    if missing.is_empty() {
        return Ok(());
    }
    let (missing, packages) = missing.into_iter().unzip();
    Err(Problem::Libraries { missing, packages })
}

fn can_load(library: &str) -> bool {
    // SAFETY: these are the display libraries themselves, which winit and glutin load the same way a moment later; their
    // constructors run either way.
    unsafe { libloading::Library::new(library) }.is_ok()
}

#[cfg(test)]
mod tests {
    use super::{Problem, judge};

    #[test]
    fn no_display_at_all() {
        assert_eq!(judge(false, false, |_| true), Err(Problem::NoDisplay));
    }

    #[test]
    fn everything_there() {
        assert_eq!(judge(true, true, |_| true), Ok(()));
        assert_eq!(judge(false, true, |library| library != "libEGL.so.1"), Ok(()));
    }

    #[test]
    fn the_remedy_names_the_packages() {
        let problem = judge(false, true, |library| !library.contains("xkbcommon-x11") && !library.contains("GL"));
        let text = problem.map_err(|problem| problem.to_string());
        assert_eq!(
            text.unwrap_err(),
            "the window needs libxkbcommon-x11.so.0, libGL.so.1, which this system lacks; install it with \
             `apt-get install libxkbcommon-x11-0 libgl1`"
        );
    }

    #[test]
    fn wayland_draws_with_egl_only() {
        let problem = judge(true, false, |library| library != "libEGL.so.1");
        assert_eq!(problem, Err(Problem::Libraries { missing: vec!["libEGL.so.1"], packages: vec!["libegl1"] }));
    }
}
