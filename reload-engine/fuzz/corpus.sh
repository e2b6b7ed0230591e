#!/usr/bin/env bash
# Builds small libraries for the fuzz targets to begin with, into corpus/TARGET/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat > "$work/c.c" <<'C'
struct node { struct node *next; int id; };
static struct node *head; static int counter = 7; int exported = 3; static _Thread_local long seen;
static const char *const words[] = {"one", "two"};
const char *word(int i) { return words[i & 1]; }
int work(struct node *n, int x) { counter += x; head = n; seen++; return n->id + exported; }
int pick(int x) { switch (x) { case 0: return 11; case 1: return 5; case 2: return 99; case 3: return 17; case 4: return 2; } return x; }
C
cat > "$work/cpp.cpp" <<'CPP'
struct Base { virtual int a() { return 1; } int z = 0; };
struct World : Base { double v; int a() override { return 3; } };
static World world; void other();
extern "C" int work(int x) { try { other(); return world.a() + x; } catch (const World &) { return 2; } catch (int i) { return i; } }
CPP
cat > "$work/rust.rs" <<'RUST'
#![no_std]
#[panic_handler] fn panicked(_: &core::panic::PanicInfo) -> ! { loop {} }
pub enum Event { Key(u32), Move { x: u64 } }
static mut LAST: Event = Event::Key(1);
#[unsafe(no_mangle)] pub extern "C" fn work(n: u32) -> usize { unsafe { LAST = Event::Move { x: 1 } }
    (match n { 0 => "zero", 1 => "one", 2 => "second", 3 => "third", 4 => "fourth", _ => "many" }).len() }
RUST
small=(-shared -fPIC -nostdlib -Wl,-z,noseparate-code -Wl,--build-id=none)
gcc "${small[@]}" -O1 -g -o "$work/c1" "$work/c.c"
gcc "${small[@]}" -Os -s -o "$work/c2" "$work/c.c"
gcc "${small[@]}" -O0 -gdwarf-4 -gz -Wl,-z,pack-relative-relocs -o "$work/c3" "$work/c.c"
g++ "${small[@]}" -O1 -g -o "$work/cpp1" "$work/cpp.cpp"
rustc --edition=2024 --crate-type=cdylib -Cpanic=abort -Cdebuginfo=2 -Copt-level=1 -Clink-arg=-nostdlib -o "$work/rust1" "$work/rust.rs"

for target in image layouts plan completeness; do
    mkdir -p "corpus/$target"
    for library in c1 c2 c3 cpp1 rust1; do
        cp "$work/$library" "corpus/$target/$library"
        if [ "$target" = plan ]; then printf '%08d' 1 >> "corpus/$target/$library"; fi
    done
done
mkdir -p corpus/frames
printf '\x02\x00\x00\x00\x00\x01\x01\x00\x00\x00\x01' > corpus/frames/hello
