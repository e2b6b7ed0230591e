// A program of C++ with state wherever C++ keeps it. Each line of its input is one round; it answers with what it counts,
// which is the same everywhere as long as nothing got lost, and ends with its input. Versions differ by the macro VERSION.
#include <exception>
#include <functional>
#include <iomanip>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

struct Counter {
    long count = 0;
    static long alive;
    Counter() { alive += 1; }
    ~Counter() { std::cout << "counter of " << std::dec << count << " ends in version " << VERSION << std::endl; }
};
long Counter::alive = 0;

static Counter counter;
static std::map<std::string, std::vector<long>> table;
static std::string text;
static std::mutex lock;
static thread_local std::vector<long> of_thread;
inline long inline_count = 0;

template <typename T> static T &only_one() {
    static T value{};
    return value;
}

struct Shape {
    virtual ~Shape() = default;
    virtual long area(long x) = 0;
};
struct Square final : Shape {
    long side = 2;
    long area(long x) override { return side * x * VERSION; }
};
static std::unique_ptr<Shape> shape;
static std::function<long(long)> held;

// A class of the program's own: its type is found by name or by address when it is caught.
struct Refusal : std::runtime_error {
    long code;
    explicit Refusal(long code) : std::runtime_error("refusal of version " + std::to_string(VERSION)), code(code) {}
};

static __attribute__((noinline)) void refuse(long code) {
    if (code % 2)
        throw Refusal(code);
    throw std::out_of_range("range of version " + std::to_string(VERSION));
}

// Who catches may be older than who throws, and the other way round.
static std::exception_ptr kept_error;

static __attribute__((noinline)) std::string caught(long code) {
    try {
        refuse(code);
    } catch (const Refusal &refusal) {
        return std::string(refusal.what()) + "/" + std::to_string(refusal.code * VERSION);
    } catch (const std::out_of_range &error) {
        return error.what();
    }
    return "nothing";
}

static std::string rethrown() {
    try {
        std::rethrow_exception(kept_error);
    } catch (const Refusal &refusal) {
        return refusal.what();
    }
}

static __attribute__((noinline)) void one_round() {
    std::lock_guard guard(lock);
    counter.count += 1;
    inline_count += 1;
    only_one<long>() += 1;
    table["rounds"].push_back(counter.count);
    text += 'x';
    of_thread.push_back(counter.count);
    long rounds = counter.count;
    bool all = inline_count == rounds && only_one<long>() == rounds && long(table["rounds"].size()) == rounds &&
               long(text.size()) == rounds && long(of_thread.size()) == rounds && Counter::alive == 1;
    // Hexadecimal since the first round, and never set again: what `std::cout` remembers is libstdc++'s own.
    std::cout << ">rounds=" << rounds << " kept=" << (all ? rounds : 0) << " version=" << VERSION
              << " shape=" << shape->area(10) << " square=" << (dynamic_cast<Square *>(shape.get()) != nullptr)
              << " held=" << held(1) << " odd=[" << caught(7) << "] even=[" << caught(8) << "] kept_error=["
              << rethrown() << "] wide=" << std::setw(6) << 0xabcd << std::endl;
    if (rounds % 3 == 0)
        refuse(9);
}

int main() {
    std::cout << std::hex << std::setfill('.');
    shape = std::make_unique<Square>();
    held = [](long x) { return x + 16 * VERSION; };
    try {
        refuse(1);
    } catch (...) {
        kept_error = std::current_exception();
    }
    std::string line;
    while (std::getline(std::cin, line)) {
        try {
            one_round();
        } catch (const Refusal &refusal) {
            std::cout << "main caught " << refusal.what() << std::endl;
        }
    }
}
