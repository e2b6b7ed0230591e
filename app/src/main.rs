//! The binary: what the command line says is done by `cli`, and the window it opens is the library's.

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    // Before anything else: started by ourselves to trace a target's threads, this process must do nothing but that.
    if let Some(code) = reload_engine::target::helper_main() {
        return code;
    }
    cli::main()
}
