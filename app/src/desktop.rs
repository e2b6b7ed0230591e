//! What the desktop does for the window: notifications and file dialogs. Each call may wait; for the worker.

use std::{collections::HashMap, env, path::PathBuf, time::Duration};

use zbus::{
    blocking::{Connection, connection},
    zvariant::{OwnedValue, Value},
};

/// How long the desktop may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same where it may have to start what answers.
const PORTAL_PATIENCE: Duration = Duration::from_secs(10);

/// Shows a notification, in place of the one before where the desktop can.
///
/// # Errors
/// There is no session bus, or nobody on it shows notifications.
pub fn notify(summary: &str, body: &str, replaces: u32) -> zbus::Result<u32> {
    notify_over(&connection::Builder::session()?.method_timeout(PATIENCE).build()?, summary, body, replaces)
}

fn notify_over(connection: &Connection, summary: &str, body: &str, replaces: u32) -> zbus::Result<u32> {
    let hints = HashMap::from([("urgency", Value::U8(1)), ("desktop-entry", Value::from("reload-dashboard"))]);
    // org.freedesktop.Notifications, specification 1.2: the server decides how long it stays.
    let arguments = ("reload-dashboard", replaces, "", summary, body, Vec::<&str>::new(), hints, -1_i32);
    let name = "org.freedesktop.Notifications";
    let reply =
        connection.call_method(Some(name), "/org/freedesktop/Notifications", Some(name), "Notify", &arguments)?;
    reply.body().deserialize()
}

/// A file that the user is to point at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// A library to load.
    Library,
    /// A program to start.
    Program,
    /// Where a report goes.
    Report,
}

/// Asks with the desktop's dialog.
///
/// # Errors
/// There is no dialog here: neither a portal's nor `zenity`, which rfd falls back to. Its answer is then that of a cancel.
pub fn pick(wanted: Wanted) -> Result<Option<PathBuf>, NoDialog> {
    if !has_portal() && !has_zenity() {
        return Err(NoDialog);
    }
    let dialog = rfd::FileDialog::new();
    Ok(match wanted {
        Wanted::Library => dialog
            .set_title("Load a module into the target")
            .add_filter("Shared libraries", &["so"])
            .add_filter("All files", &["*"])
            .pick_file(),
        Wanted::Program => dialog.set_title("Choose a program to start").pick_file(),
        Wanted::Report => dialog
            .set_title("Export a report")
            .set_file_name("reload-report.md")
            .add_filter("Markdown", &["md"])
            .save_file(),
    })
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoDialog;

fn has_portal() -> bool {
    let asked = || chooser_version(&connection::Builder::session()?.method_timeout(PORTAL_PATIENCE).build()?);
    asked().inspect_err(|error| tracing::debug!("no file dialog by a portal: {error}")).is_ok()
}

/// The service alone shows nothing: it offers this interface only where the desktop has a backend that chooses files. Asked for
/// a file without one, it fails, and nothing happens that a user would see.
fn chooser_version(connection: &Connection) -> zbus::Result<u32> {
    let (name, path) = ("org.freedesktop.portal.Desktop", "/org/freedesktop/portal/desktop");
    let properties = Some("org.freedesktop.DBus.Properties");
    let asked = ("org.freedesktop.portal.FileChooser", "version");
    let reply = connection.call_method(Some(name), path, properties, "Get", &asked)?;
    let version: OwnedValue = reply.body().deserialize()?;
    Ok(version.try_into()?)
}

fn has_zenity() -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|folder| folder.join("zenity").is_file()))
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        fs,
        io::{BufRead, BufReader},
        process::{Child, Command, Stdio},
        sync::mpsc::{Sender, channel},
        time::Duration,
    };

    use zbus::{blocking::connection, interface, zvariant::OwnedValue};

    use super::{chooser_version, notify_over};

    /// A bus that starts no services, as those installed here would be.
    const BUS: &str = r#"<busconfig>
        <type>session</type>
        <listen>unix:tmpdir=/tmp</listen>
        <policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy>
    </busconfig>"#;

    /// A bus of our own; it ends with the test.
    struct Bus {
        daemon: Child,
        address: String,
        _settings: tempfile::NamedTempFile,
    }

    impl Bus {
        fn new() -> Bus {
            let settings = tempfile::NamedTempFile::new().unwrap();
            fs::write(&settings, BUS).unwrap();
            let mut daemon = Command::new("dbus-daemon");
            daemon.arg("--config-file").arg(settings.path()).args(["--nofork", "--print-address=1"]);
            let daemon = daemon.stdout(Stdio::piped()).spawn().expect("dbus-daemon; tests/run installs it");
            let mut bus = Bus { daemon, address: String::new(), _settings: settings };
            BufReader::new(bus.daemon.stdout.take().unwrap()).read_line(&mut bus.address).unwrap();
            bus
        }

        fn connect(&self) -> connection::Builder<'_> {
            connection::Builder::address(self.address.trim()).unwrap().method_timeout(Duration::from_secs(10))
        }
    }

    impl Drop for Bus {
        fn drop(&mut self) {
            // Fails only where it has ended by itself.
            let _ = self.daemon.kill();
            let _ = self.daemon.wait();
        }
    }

    /// What a desktop's notification service is asked.
    struct Desktop(Sender<(String, u32, String, String)>);

    #[interface(name = "org.freedesktop.Notifications")]
    impl Desktop {
        #[expect(clippy::too_many_arguments, reason = "the specification's")]
        fn notify(
            &self,
            application: String,
            replaces: u32,
            _icon: String,
            summary: String,
            body: String,
            _actions: Vec<String>,
            _hints: HashMap<String, OwnedValue>,
            _timeout: i32,
        ) -> u32 {
            self.0.send((application, replaces, summary, body)).unwrap();
            replaces.max(41) + 1
        }
    }

    #[test]
    fn notifications_reach_the_desktop_and_replace_each_other() {
        let bus = Bus::new();
        let window = bus.connect().build().unwrap();
        assert!(notify_over(&window, "nobody", "listens", 0).is_err());

        let (told, heard) = channel();
        let desktop = bus.connect().name("org.freedesktop.Notifications").unwrap();
        let _desktop = desktop.serve_at("/org/freedesktop/Notifications", Desktop(told)).unwrap().build().unwrap();
        let first = notify_over(&window, "libphysics.so was refused", "`World` grew", 0).unwrap();
        let second = notify_over(&window, "libecs.so failed to reload", "", first).unwrap();
        assert_eq!((first, second), (42, 43));
        let text = |text: &str| text.to_owned();
        let expected = (text("reload-dashboard"), 0, text("libphysics.so was refused"), text("`World` grew"));
        assert_eq!(heard.recv().unwrap(), expected);
        assert_eq!(heard.recv().unwrap().1, 42);
    }

    /// What a portal offers on every desktop.
    struct Settings;

    #[interface(name = "org.freedesktop.portal.Settings")]
    impl Settings {
        #[zbus(property, name = "version")]
        fn version(&self) -> u32 {
            2
        }
    }

    /// What it offers only where a backend of it shows a dialog.
    struct FileChooser;

    #[interface(name = "org.freedesktop.portal.FileChooser")]
    impl FileChooser {
        #[zbus(property, name = "version")]
        fn version(&self) -> u32 {
            3
        }
    }

    #[test]
    fn a_portal_without_a_backend_that_chooses_files_is_none() {
        let bus = Bus::new();
        let window = bus.connect().build().unwrap();
        assert!(chooser_version(&window).is_err(), "nobody is there");

        let (name, path) = ("org.freedesktop.portal.Desktop", "/org/freedesktop/portal/desktop");
        let portal = bus.connect().serve_at(path, Settings).unwrap().name(name).unwrap().build().unwrap();
        let error = chooser_version(&window).unwrap_err();
        assert!(error.to_string().contains("UnknownInterface"), "{error}");
        portal.object_server().at(path, FileChooser).unwrap();
        assert_eq!(chooser_version(&window).unwrap(), 3);
    }
}
