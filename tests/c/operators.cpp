// operators: every C++ operator new and delete; what happens when there is no memory; new-handlers.
#include "check.h"
#include <malloc.h>
#include <new>
#include <stdexcept>
#include <string>
#include <sys/resource.h>
#include <thread>
#include <unistd.h>
#include <vector>

#pragma GCC diagnostic ignored "-Wmismatched-new-delete"

// Whether a call answers what is wanted, and leaves ENOMEM behind.
template <class F> static bool tells_no_memory(F &&call)
{
    errno = 0;
    return call() && errno == ENOMEM;
}

static bool aligned(void *block, size_t align)
{
    return block && reinterpret_cast<uintptr_t>(block) % align == 0;
}

static void all_operators()
{
    const std::nothrow_t &quiet = std::nothrow;
    for (size_t size = 0; size < 100000; size = size * 5 / 4 + 1) {
        ::operator delete(::operator new(size));
        ::operator delete(::operator new(size), size);
        ::operator delete(::operator new(size), quiet);
        ::operator delete(::operator new(size, quiet));
        ::operator delete[](::operator new[](size));
        ::operator delete[](::operator new[](size), size);
        ::operator delete[](::operator new[](size), quiet);
        ::operator delete[](::operator new[](size, quiet));
        void *first = ::operator new(size), *second = ::operator new[](size);
        CHECK(first && second && first != second && malloc_usable_size(first) >= size);
        memset(first, 1, malloc_usable_size(first));
        ::operator delete(first);
        ::operator delete[](second);
        for (size_t bytes = 32; bytes <= 1 << 16; bytes *= 4) {
            auto align = std::align_val_t(bytes);
            void *block;
            CHECK(aligned(block = ::operator new(size, align), bytes));
            ::operator delete(block, align);
            CHECK(aligned(block = ::operator new(size, align, quiet), bytes));
            ::operator delete(block, size, align);
            CHECK(aligned(block = ::operator new(size, align), bytes));
            ::operator delete(block, align, quiet);
            CHECK(aligned(block = ::operator new[](size, align), bytes));
            ::operator delete[](block, align);
            CHECK(aligned(block = ::operator new[](size, align, quiet), bytes));
            ::operator delete[](block, size, align);
            CHECK(aligned(block = ::operator new[](size, align), bytes));
            ::operator delete[](block, align, quiet);
        }
    }
    // Null is nothing to delete.
    auto align = std::align_val_t(64);
    ::operator delete(nullptr);
    ::operator delete(nullptr, size_t(10));
    ::operator delete(nullptr, std::nothrow);
    ::operator delete(nullptr, align);
    ::operator delete(nullptr, size_t(10), align);
    ::operator delete[](nullptr);
    ::operator delete[](nullptr, size_t(10), align);
    QUIETLY(::operator delete(::operator new(50000)));
    QUIETLY(::operator delete(::operator new(100), size_t(100)));
}

static int destroyed;
struct Guard {
    std::string text = std::string(100, 'g');
    ~Guard() { destroyed++; }
};

template <class F> static bool throws_bad_alloc(F &&call)
{
    try {
        Guard guard;
        call();
    } catch (const std::bad_alloc &error) {
        return error.what() != nullptr;
    }
    return false;
}

static void *volatile kept;

__attribute__((noinline)) static void deep(int levels)
{
    Guard guard;
    if (levels > 0)
        deep(levels - 1);
    else
        kept = ::operator new(most);
    kept = nullptr; // not a tail call
}

static void no_memory()
{
    auto align = std::align_val_t(4096);
    CHECK(std::get_new_handler() == nullptr);
    destroyed = 0;
    for (size_t size : {size_t(most), size_t(half), size_t(half) + 1, size_t(most) - 4096}) {
        auto throws = [](auto call) { return tells_no_memory([=] { return throws_bad_alloc(call); }); };
        CHECK(throws([=] { kept = ::operator new(size); }));
        CHECK(throws([=] { kept = ::operator new[](size); }));
        CHECK(throws([=] { kept = ::operator new(size, align); }));
        CHECK(throws([=] { kept = ::operator new[](size, align); }));
        auto is_null = [](auto call) { return tells_no_memory([=] { return call() == nullptr; }); };
        CHECK(is_null([=] { return ::operator new(size, std::nothrow); }));
        CHECK(is_null([=] { return ::operator new[](size, std::nothrow); }));
        CHECK(is_null([=] { return ::operator new(size, align, std::nothrow); }));
        CHECK(is_null([=] { return ::operator new[](size, align, std::nothrow); }));
    }
    CHECK(destroyed == 16);
    // Through many frames, each with something to destroy.
    destroyed = 0;
    CHECK(throws_bad_alloc([] { deep(50); }));
    CHECK(destroyed == 52);
    // In the library's own code.
    CHECK(throws_bad_alloc([] { std::vector<char> all(PTRDIFF_MAX); }));
    // In threads, and more often than anything that leaks could stand.
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; i++)
        threads.emplace_back([] {
            for (int turn = 0; turn < 2000; turn++)
                CHECK(throws_bad_alloc([] { kept = ::operator new(most); }) &&
                      ::operator new(most, std::nothrow) == nullptr);
        });
    for (auto &thread : threads)
        thread.join();
}

static int calls;

static void give_up_after_three()
{
    if (++calls == 3)
        std::set_new_handler(nullptr);
}

struct Special : std::bad_alloc {
    const char *what() const noexcept override { return "special"; }
};

static void handlers()
{
    auto align = std::align_val_t(64);
    // Called again and again, until there is none.
    auto counted = [](auto call) {
        calls = 0;
        std::set_new_handler(give_up_after_three);
        bool thrown = throws_bad_alloc(call);
        return thrown && calls == 3 && std::get_new_handler() == nullptr;
    };
    CHECK(counted([] { kept = ::operator new(most); }));
    CHECK(counted([] { kept = ::operator new[](most); }));
    CHECK(counted([=] { kept = ::operator new(most, align); }));
    CHECK(counted([=] { kept = ::operator new[](most, align); }));
    // Those that don't throw call it too.
    auto counted_quietly = [](auto call) {
        calls = 0;
        std::set_new_handler(give_up_after_three);
        return call() == nullptr && calls == 3;
    };
    CHECK(counted_quietly([] { return ::operator new(most, std::nothrow); }));
    CHECK(counted_quietly([] { return ::operator new[](most, std::nothrow); }));
    CHECK(counted_quietly([=] { return ::operator new(most, align, std::nothrow); }));
    CHECK(counted_quietly([=] { return ::operator new[](most, align, std::nothrow); }));
    // What a handler throws comes through, or is caught where nothing may be thrown.
    std::set_new_handler([] { throw Special(); });
    destroyed = 0;
    try {
        Guard guard;
        kept = ::operator new(most);
        CHECK(false);
    } catch (const Special &error) {
        CHECK(!strcmp(error.what(), "special"));
    }
    CHECK(destroyed == 1);
    CHECK(::operator new(most, std::nothrow) == nullptr);
    CHECK(::operator new[](most, align, std::nothrow) == nullptr);
    std::set_new_handler([] { throw 17; });
    try {
        kept = ::operator new(most);
        CHECK(false);
    } catch (int number) {
        CHECK(number == 17);
    }
    CHECK(::operator new(most, std::nothrow) == nullptr);
    std::set_new_handler(nullptr);
}

static void *reserve;

static void a_handler_that_helps()
{
    // Address space for what is there, and little more: the large block only fits once the reserve is given up.
    const size_t large = 256 << 20;
    reserve = malloc(large);
    CHECK(reserve);
    struct rlimit before, limit;
    CHECK(getrlimit(RLIMIT_AS, &before) == 0);
    limit = before;
    // Under the first limit the allocator gives back what it can do without, at the latest when it finds no memory.
    for (int i = 0; i < 2; i++) {
        long pages = 0;
        FILE *file = fopen("/proc/self/statm", "r");
        CHECK(file && fscanf(file, "%ld", &pages) == 1);
        fclose(file);
        limit.rlim_cur = size_t(pages) * 4096 + (100 << 20);
        CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
        CHECK(malloc(size_t(1) << 40) == nullptr);
    }
    CHECK(malloc(large) == nullptr && errno == ENOMEM);
    calls = 0;
    std::set_new_handler([] {
        calls++;
        free(reserve);
        reserve = nullptr;
        std::set_new_handler(nullptr);
    });
    void *block = ::operator new(large);
    CHECK(block && calls == 1 && !reserve);
    static_cast<char *>(block)[large - 1] = 1;
    CHECK(throws_bad_alloc([=] { kept = ::operator new(large); }));
    ::operator delete(block, large);
    CHECK(setrlimit(RLIMIT_AS, &before) == 0);
}

int main()
{
    all_operators();
    no_memory();
    handlers();
    a_handler_that_helps();
    return 0;
}
