# What the scripts share: makes sure that the Debian packages and the compiler they need are there. Sourced, never run.
#
# Packages are installed where that is possible without asking (root, or sudo without a password). Otherwise the exact
# line to run is printed and the script ends with status 2.

# Linking, and the host programs of the tests.
packages_build=(gcc g++ libc6-dev)
# What the window opens when it starts; either window system will do, these are the X11 ones.
packages_run=(libx11-6 libx11-xcb1 libxcb1 libxcursor1 libxi6 libxrandr2 libxkbcommon0 libxkbcommon-x11-0 libgl1 libegl1 libgl1-mesa-dri)
# A display of our own with hands on it and eyes, and the accessibility bus with something that speaks to it.
packages_test=(xvfb openbox xdotool imagemagick x11-utils dbus at-spi2-core python3-gi gir1.2-atspi-2.0)
# The desktop's file dialog.
packages_test+=(xdg-desktop-portal-gtk)
# A debugger, and programs that nobody here wrote, to be attached.
packages_test+=(gdb python3 nodejs redis-server nginx bash sqlite3)
# Another compiler of C and C++, and another linker.
packages_test+=(clang)
# Python extensions of every kind, and a kernel to reload them in.
packages_python=(python3-dev pybind11-dev cython3 python3-ipykernel)

# need_packages NAME...: returns once all are installed.
need_packages() {
    if ! command -v dpkg-query >/dev/null; then
        echo "note: this is no Debian or Ubuntu; if something is missing, install what these packages hold: $*" >&2
        return
    fi
    local missing=() name found
    for name in "$@"; do
        # Ubuntu's 64-bit time_t transition renamed some packages; the old name is then provided by the new one.
        # It fails where it does not know one of the two, which is the usual case.
        found=$(dpkg-query -W -f '${db:Status-Abbrev}\n' "$name" "${name}t64" 2>/dev/null || true)
        [[ $found == *ii* ]] || missing+=("$name")
    done
    [ ${#missing[@]} -eq 0 ] && return

    local install=(apt-get install -y --no-install-recommends "${missing[@]}")
    local as=()
    if [ "$(id -u)" -ne 0 ]; then
        if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
            as=(sudo -n)
        else
            echo "These packages are missing: ${missing[*]}" >&2
            echo "Run this, then try again:" >&2
            echo "    sudo apt-get update && sudo ${install[*]}" >&2
            exit 2
        fi
    fi
    echo "installing ${missing[*]}" >&2
    as+=(env DEBIAN_FRONTEND=noninteractive)
    # Stale lists are the usual reason for a failure: try once without, as an update takes longer than the packages.
    "${as[@]}" "${install[@]}" -qq </dev/null >/dev/null 2>&1 && return
    "${as[@]}" apt-get update -qq </dev/null >&2
    "${as[@]}" "${install[@]}" -qq </dev/null >&2
}

# need_rust: puts cargo on the PATH or ends.
need_rust() {
    local environment="${CARGO_HOME:-${HOME:-}/.cargo}/env"
    # shellcheck disable=SC1090
    if [ -r "$environment" ]; then . "$environment"; fi
    if ! command -v cargo >/dev/null; then
        echo "Rust is missing. Install it from https://rustup.rs, then try again:" >&2
        echo "    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y" >&2
        exit 2
    fi
    local wanted found
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)
    found=$(cargo --version | cut -d ' ' -f 2)
    if [ "$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -n 1)" != "$wanted" ]; then
        echo "Rust $wanted or newer is needed, this is $found. Run this, then try again:" >&2
        echo "    rustup update stable" >&2
        exit 2
    fi
}

# need_components NAME...: the parts of a toolchain that a minimal installation leaves out.
need_components() {
    local name
    for name in "$@"; do
        cargo "$name" --version >/dev/null 2>&1 && continue
        [ "$name" = fmt ] && name=rustfmt
        echo "installing $name" >&2
        if ! rustup component add "$name" </dev/null >&2; then
            echo "$name is missing. Run this, then try again:" >&2
            echo "    rustup component add $name" >&2
            exit 2
        fi
    done
}
