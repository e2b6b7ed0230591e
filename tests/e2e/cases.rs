//! Every folder of `cases/` as a test of its own.

use std::{path::Path, process::ExitCode};

use libtest_mimic::{Arguments, Trial};
use reload_tests::case;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let trials = case::all(&folder)
        .into_iter()
        .map(|case| {
            Trial::test(case.name.clone(), move || {
                case.run();
                Ok(())
            })
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
