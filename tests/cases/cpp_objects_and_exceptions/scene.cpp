// Objects with virtual methods, exceptions that cross modules, and the statics of C++.
#include <cstdio>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "shape.h"

static long constructed;

struct Log {
    std::vector<std::string> lines;
    Log() {
        constructed++;
        lines.push_back("made by version " + std::to_string(VERSION));
    }
    // Registered by the version that made it; runs once, whatever came after.
    ~Log() {
        if (this == goodbye)
            std::printf("version %d: %zu lines at the end\n", VERSION, lines.size());
    }
    static Log *goodbye;
};
static Log log_lines;
Log *Log::goodbye = &log_lines;

inline long inline_total = 7;
static std::map<long, long> table;
static std::mutex table_lock;

static long destroyed;
struct Guest {
    long weight = 0;
    ~Guest() { destroyed += weight * VERSION; }
};
static thread_local Guest guest;

static Log &made_on_first_use() {
    static Log made;
    return made;
}

template <typename T> static long accumulated(T x) {
    static T total{};
    return static_cast<long>(total += x * VERSION);
}

long Circle::area(long x) { return side * x * VERSION; }
long Circle::name(long x) { return 100 * VERSION + x; }
Circle::~Circle() {}

struct Square : Shape {
    long side = 2;
    long area(long x) override { return side * side * x + VERSION; }
    long name(long x) override { return 200 * VERSION + x; }
};

static Shape *last;

extern "C" {
Shape *object_new() { return last = new Circle(3); }

long other_shape(long x) {
    static std::unique_ptr<Shape> kept = std::make_unique<Square>();
    return kept->area(x);
}

// An object made by an older version is still the class it was.
long is_circle(long x) { return x + (dynamic_cast<Circle *>(last) != nullptr); }

long compute(long x) { return x + VERSION * 100; }

long thrower(long x) {
    if (x > 10)
        throw std::runtime_error("version " + std::to_string(VERSION));
    return x * VERSION;
}

long caught_inside(long x) {
    try {
        return thrower(x);
    } catch (const std::runtime_error &error) {
        return -std::stol(std::string(error.what()).substr(8));
    }
}

long insert(long x) {
    std::lock_guard lock(table_lock);
    table[x] = x * VERSION;
    return static_cast<long>(table.size());
}

long total(long x) {
    std::lock_guard lock(table_lock);
    for (auto &[key, value] : table)
        x += value;
    return x + inline_total * 1000;
}

long log_size(long x) {
    log_lines.lines.push_back("another");
    return static_cast<long>(log_lines.lines.size()) + x;
}

const char *first_line(long) { return made_on_first_use().lines.front().c_str(); }
long constructions(long x) { return constructed + x; }
long accumulate(long x) { return accumulated<long>(x); }

long weigh(long x) {
    guest.weight += x;
    return guest.weight;
}
long destroyed_weight(long x) { return destroyed + x; }
}
