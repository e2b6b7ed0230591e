//! Types that live on stacks only: what lasts as long as the program is refused, what comes and goes is told.

use std::{process::Command, sync::Arc};

use reload_engine::{image::Image, plan::Objections};

use super::plan_between;

/// What the program's start has on its stack is there before the reload and after it.
#[test]
fn types_in_the_frame_of_main() {
    let source = "struct World { count: u32, level: u32 }
        struct Brief { x: u32, y: u32 }
        fn tick(world: &mut World) -> bool { let b = Brief { x: world.count, y: 1 }; world.count += add(&b); world.level < 9 }
        fn add(b: &Brief) -> u32 { b.x + b.y }
        fn main() { let mut world = World { count: 0, level: 0 }; while tick(&mut world) {} }";
    let folder = tempfile::tempdir().expect("a folder");
    let program = |from: &str, to: &str| {
        assert!(source.contains(from), "{from}");
        let (input, output) = (folder.path().join("p.rs"), folder.path().join("p"));
        std::fs::write(&input, source.replace(from, to)).expect("write the source");
        let mut command = Command::new("rustc");
        command.args(["--edition=2024", "-Cdebuginfo=2", "-Awarnings", "-o"]).arg(&output).arg(&input);
        let built = command.output().expect("the compiler is installed");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        Arc::new(Image::parse(&output, std::fs::read(&output).expect("read")).expect("parse"))
    };
    let old = program("world.level < 9", "world.level < 9");
    let told = |from, to| plan_between(&old, program(from, to), Objections::Refuse).map(|plan| plan.warnings);

    let refused = told("count: u32, level: u32", "count: u32, level: i32").expect_err("main holds one");
    assert!(refused.iter().any(|line| line.contains("`p::World`: field `level` changed")), "{refused:?}");
    let warned = told("struct Brief { x: u32, y: u32 }", "#[repr(C)] struct Brief { y: u32, x: u32 }").expect("brief");
    let misread = |line: &String| line.contains("`p::Brief`") && line.contains("on their stack");
    assert!(warned.iter().any(misread), "{warned:?}");
    assert_eq!(told("< 9", "< 8").expect("nothing of types"), Vec::<String>::new());
}
