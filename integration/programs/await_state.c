/* Waits by poll(2) until a line of a job's `state` or `status` is one of those given: await_state PATH LINE... .
   Prints every text that it read. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int has_line(const char *text, const char *line)
{
    size_t size = strlen(line);

    for (; text; text = strchr(text, '\n') ? strchr(text, '\n') + 1 : NULL)
        if (strncmp(text, line, size) == 0 && (text[size] == '\n' || !text[size]))
            return 1;
    return 0;
}

int main(int count, char **words)
{
    char text[1 << 16];
    struct pollfd state = {.fd = open(words[1], O_RDONLY), .events = POLLPRI};

    if (state.fd < 0) {
        perror(words[1]);
        return 1;
    }
    while (poll(&state, 1, -1) == 1) {
        if (!(state.revents & POLLPRI)) {
            fprintf(stderr, "woken by %#x\n", (unsigned)state.revents);
            return 1;
        }
        ssize_t size = pread(state.fd, text, sizeof text - 1, 0);
        if (size < 1) {
            perror("pread");
            return 1;
        }
        text[size - 1] = 0;
        puts(text);
        fflush(stdout);
        for (int number = 2; number < count; number++)
            if (has_line(text, words[number]))
                return 0;
    }
    perror("poll");
    return 1;
}
