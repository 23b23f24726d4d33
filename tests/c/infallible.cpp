// infallible: operator new where it is to end the process instead of throwing.
#include "check.h"
#include <csignal>
#include <heapsift/heapsift.h>
#include <new>
#include <sys/wait.h>
#include <unistd.h>

const char *malloc_conf = "experimental_infallible_new:true";

static int told;

extern "C" void own_way(const char *line)
{
    const char *wanted = "<heapsift>: Allocation of size 9223372036854775807 failed. ";
    CHECK(!strncmp(line, wanted, strlen(wanted)) && line[strlen(line) - 1] == '\n');
    told++;
}

static void set_hook(void (*hook)(const char *))
{
    CHECK(mallctl("experimental.hooks.safety_check_abort", nullptr, nullptr, &hook, sizeof hook) == 0);
}

static void *volatile block;

int main()
{
    size_t volatile most = PTRDIFF_MAX;
    block = ::operator new(100);
    CHECK(block);
    ::operator delete(block);
    // A hook that comes back: nothing is thrown, and no handler called.
    set_hook(own_way);
    std::set_new_handler([] { CHECK(!"a handler"); });
    // The results are read back: compilers take it that such a new never returns null.
    try {
        block = ::operator new(most);
        CHECK(!block);
        block = ::operator new[](most);
        CHECK(!block);
        block = ::operator new(most, std::align_val_t(64));
        CHECK(!block);
        block = ::operator new(most, std::nothrow);
        CHECK(!block);
    } catch (...) {
        CHECK(!"an exception");
    }
    CHECK(told == 4);
    set_hook(nullptr);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        close(2);
        block = ::operator new(most);
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    return 0;
}
