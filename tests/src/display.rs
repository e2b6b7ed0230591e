//! A screen of our own: Xvfb with a window manager and an accessibility bus, the windows on it, and what they show.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use crate::{deadline, process};

/// A running X server; it and all that was started with it ends when this is dropped.
pub struct Display {
    /// As `:99`.
    pub name: String,
    /// Width and height, in pixels.
    pub size: [i32; 2],
    /// The address of the session bus.
    pub bus: String,
    /// In the order of their start.
    processes: Vec<Child>,
    /// `$XDG_RUNTIME_DIR` of the bus and of all it starts. The accessibility bus has its socket in there, or else in the
    /// user's cache, under one name for all displays: there the next display takes the place of the one before, and the
    /// first that ends takes it away from all.
    runtime: tempfile::TempDir,
}

impl Default for Display {
    fn default() -> Self {
        Display::new()
    }
}

impl Display {
    pub fn new() -> Self {
        Display::sized([1440, 900])
    }

    pub fn sized(size: [i32; 2]) -> Self {
        // The server picks a free number and writes it to the given descriptor, its standard output.
        let mut server = Command::new("Xvfb");
        let [width, height] = size;
        let screen = format!("{width}x{height}x24");
        server.args(["-displayfd", "1", "-screen", "0", &screen, "-nolisten", "tcp"]);
        let runtime = tempfile::Builder::new().prefix("reload-display-").tempdir();
        let runtime = runtime.expect("the temporary folder is writable");
        let mut display = Display { name: String::new(), size, bus: String::new(), processes: Vec::new(), runtime };
        display.name = format!(":{}", display.first_line(&mut server));
        let mut bus = Command::new("dbus-daemon");
        bus.args(["--session", "--nofork", "--print-address=1"]);
        display.furnish(&mut bus);
        bus.env("XDG_RUNTIME_DIR", display.runtime.path()).env_remove("DBUS_SESSION_BUS_ADDRESS");
        // What the services that it starts remember, such as files used recently, is not the user's.
        bus.env("XDG_DATA_HOME", display.runtime.path()).env("XDG_CONFIG_HOME", display.runtime.path());
        display.bus = display.first_line(&mut bus);
        let mut windows = Command::new("openbox");
        display.furnish(&mut windows);
        display.start(&mut windows);
        display.accessibility(&["enable"]).expect("the accessibility bus starts on demand");
        display
    }

    /// Gives a command this display, and nothing of the display that the tests were started on.
    pub fn furnish(&self, command: &mut Command) {
        command.env("DISPLAY", &self.name).env("DBUS_SESSION_BUS_ADDRESS", &self.bus);
        command.env_remove("WAYLAND_DISPLAY").env_remove("WAYLAND_SOCKET").env_remove("NO_AT_BRIDGE");
        command.env("LIBGL_ALWAYS_SOFTWARE", "1").stdin(Stdio::null());
    }

    fn start(&mut self, command: &mut Command) -> &mut Child {
        command.stdout(Stdio::piped()).stderr(Stdio::null()).stdin(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}; tests/run installs it"));
        self.processes.push(child);
        self.processes.last_mut().expect("just pushed")
    }

    fn first_line(&mut self, command: &mut Command) -> String {
        let child = self.start(command);
        let output: ChildStdout = child.stdout.take().expect("piped");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).expect("UTF-8");
        assert!(!line.is_empty(), "{command:?} ended at once");
        line.trim().to_owned()
    }

    /// Waits for a window whose title contains this.
    pub fn window(&self, title: &str) -> Window<'_> {
        let id = deadline::wait_for(&format!("a window called `{title}`"), || {
            let found = self.tool("xdotool", &["search", "--onlyvisible", "--name", title]).ok()?;
            found.lines().last().map(str::to_owned)
        });
        Window { display: self, id }
    }

    /// Starts a program here that ends with this display.
    pub fn run(&mut self, program: &str) {
        let mut command = Command::new(program);
        self.furnish(&mut command);
        self.start(&mut command);
    }

    /// Moves the pointer to the last corner of the screen, where it is over nothing.
    pub fn put_pointer_away(&self) {
        let [x, y] = self.size.map(|length| (length - 1).to_string());
        self.tool("xdotool", &["mousemove", "--sync", &x, &y]).expect("the screen is there");
    }

    /// A verb of `accessibility.py`; its output, or what it complained about.
    pub fn accessibility(&self, arguments: &[&str]) -> Result<String, String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/window/accessibility.py");
        let script = script.to_str().expect("UTF-8");
        self.tool("/usr/bin/python3", &[&[script], arguments].concat())
    }

    fn tool(&self, program: &str, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(program);
        command.args(arguments);
        self.furnish(&mut command);
        let output = command.output().unwrap_or_else(|error| panic!("{program}: {error}; tests/run installs it"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        for child in self.processes.iter_mut().rev() {
            // The bus has started services of its own.
            for pid in process::family(child.id()).into_iter().skip(1) {
                process::end(pid);
            }
            // Fails only where it has ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A window on a [`Display`].
pub struct Window<'a> {
    display: &'a Display,
    id: String,
}

impl Window<'_> {
    /// What it shows now, as far as it is not covered.
    pub fn picture(&self) -> Picture {
        self.take(&["-window", &self.id])
    }

    /// The same with the frame that the window manager gives it, and with what lies in front of it.
    pub fn scene(&self) -> Picture {
        let [x, y, width, height] = self.frame().expect("the window manager has framed it");
        // A window's own picture has holes where others lie; the screen has none.
        self.take(&["-window", "root", "-crop", &format!("{width}x{height}+{x}+{y}"), "+repage"])
    }

    /// Where it lies with the frame that the window manager gives it: x, y, width, height, in pixels. `None` before that.
    pub fn frame(&self) -> Option<[i32; 4]> {
        let told = self.display.tool("xprop", &["-id", &self.id, "_NET_FRAME_EXTENTS"]).expect("it is there");
        // `_NET_FRAME_EXTENTS(CARDINAL) = 1, 1, 20, 5`
        let numbers = told.split_once('=')?.1.split(',').map(|number| number.trim().parse());
        let frame: Vec<i32> = numbers.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{error} in {told}"));
        let [left, right, top, bottom] = frame[..] else { panic!("four numbers, not {told}") };
        let [x, y, width, height] = self.place_now();
        Some([x - left, y - top, width + left + right, height + top + bottom])
    }

    fn take(&self, what: &[&str]) -> Picture {
        let mut command = Command::new("import");
        // Eight bits per channel, said of the output: before `-window` it would be said of nothing.
        command.arg("-silent").args(what).args(["-depth", "8", "ppm:-"]);
        self.display.furnish(&mut command);
        let output = command.output().unwrap_or_else(|error| panic!("import: {error}; tests/run installs it"));
        assert!(output.status.success(), "import: {}", String::from_utf8_lossy(&output.stderr));
        Picture::read(&output.stdout)
    }

    pub fn focus(&self) {
        self.display.tool("xdotool", &["windowactivate", "--sync", &self.id]).expect("the window is there");
    }

    /// Keys as xdotool names them, `ctrl+r`.
    pub fn key(&self, key: &str) {
        self.focus();
        self.display.tool("xdotool", &["key", "--clearmodifiers", key]).expect("the window is there");
    }

    pub fn click(&self, x: u32, y: u32) {
        let (x, y) = (x.to_string(), y.to_string());
        let arguments = ["mousemove", "--sync", "--window", &self.id, &x, &y, "click", "1"];
        self.display.tool("xdotool", &arguments).expect("the window is there");
    }

    /// Presses the button at a place in the window and lets go of it so many pixels further to the right.
    pub fn drag(&self, x: u32, y: u32, by: i32) {
        let (from, to, y) = (x.to_string(), x.saturating_add_signed(by).to_string(), y.to_string());
        let pointer = |x: &str| ["mousemove", "--sync", "--window", &self.id, x, &y].map(str::to_owned);
        let press = ["mousedown", "1", "sleep", "0.2"].map(str::to_owned);
        let release = ["sleep", "0.2", "mouseup", "1"].map(str::to_owned);
        let arguments = [&pointer(&from)[..], &press, &pointer(&to), &release].concat();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.display.tool("xdotool", &arguments).expect("the window is there");
    }

    /// Types letters.
    pub fn text(&self, text: &str) {
        self.focus();
        self.display.tool("xdotool", &["type", "--delay", "20", text]).expect("the window is there");
    }

    /// Puts it away, as its button in the title does.
    pub fn minimize(&self) {
        self.display.tool("xdotool", &["windowminimize", "--sync", &self.id]).expect("the window is there");
    }

    /// Where its content lies on the screen and how large that is: x, y, width, height, in pixels.
    pub fn place_now(&self) -> [i32; 4] {
        // What xdotool tells counts the frame twice.
        let told = self.display.tool("xwininfo", &["-id", &self.id]).expect("it is there");
        ["Absolute upper-left X:", "Absolute upper-left Y:", "Width:", "Height:"].map(|name| {
            let line = told.lines().find_map(|line| line.trim().strip_prefix(name));
            line.and_then(|number| number.trim().parse().ok()).unwrap_or_else(|| panic!("no {name} in {told}"))
        })
    }

    /// Moves and sizes it, in pixels.
    pub fn place(&self, x: u32, y: u32, width: u32, height: u32) {
        let [x, y, width, height] = [x, y, width, height].map(|number| number.to_string());
        self.display.tool("xdotool", &["windowmove", &self.id, &x, &y]).expect("the window is there");
        self.display.tool("xdotool", &["windowsize", &self.id, &width, &height]).expect("the window is there");
    }
}

/// An image of three bytes a pixel.
pub struct Picture {
    pub width: usize,
    pub height: usize,
    bytes: Vec<u8>,
}

impl Picture {
    /// A binary portable pixmap: `P6 WIDTH HEIGHT 255` and the bytes.
    fn read(file: &[u8]) -> Self {
        let mut header = [0; 3];
        let mut at = 2;
        for number in &mut header {
            at += file[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let digits = file[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            *number = std::str::from_utf8(&file[at..at + digits]).expect("ASCII").parse().expect("a number");
            at += digits;
        }
        assert_eq!((&file[..2], header[2]), (&b"P6"[..], 255), "a binary pixmap of eight bits");
        Picture { width: header[0], height: header[1], bytes: file[at + 1..].to_vec() }
    }

    /// How many pixels are this colour, give or take `tolerance` in each channel.
    pub fn count(&self, colour: [u8; 3], tolerance: u8) -> usize {
        let near = |pixel: &[u8]| pixel.iter().zip(colour).all(|(a, b)| a.abs_diff(b) <= tolerance);
        self.bytes.chunks_exact(3).filter(|pixel| near(pixel)).count()
    }

    /// Keeps it as `target/screenshots/NAME.png` for people to look at.
    pub fn keep(&self, name: &str) {
        let folder = target_folder().join("screenshots");
        fs::create_dir_all(&folder).expect("the build folder is writable");
        let pixmap = folder.join(format!("{name}.ppm"));
        let mut file = format!("P6\n{} {}\n255\n", self.width, self.height).into_bytes();
        file.extend(&self.bytes);
        fs::write(&pixmap, file).expect("the build folder is writable");
        let picture = folder.join(format!("{name}.png"));
        crate::toolchain::run(Command::new("convert").arg(&pixmap).arg(picture));
        fs::remove_file(pixmap).expect("just written");
    }
}

/// Where cargo builds this workspace.
pub fn target_folder() -> PathBuf {
    // target/PROFILE/deps/this-test
    let this = std::env::current_exe().expect("/proc is mounted");
    this.ancestors().nth(3).expect("cargo puts tests into deps/").to_owned()
}
