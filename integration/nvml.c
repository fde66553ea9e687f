/* A stand-in for NVIDIA's management library on machines without GPUs.
 *
 * PFS_STUB_GPUS holds one GPU in a line: UUID, memory in bytes and model, with one blank between them. Without the
 * variable the driver is not there; with "broken" it does not fit the library, as after an update without a restart.
 */
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15, MISMATCH = 18, GPUS_MAX = 64 };

struct gpu {
    char uuid[96];
    unsigned long long memory;
    char model[96];
    unsigned int minor;
};
struct memory {
    unsigned long long total, free, used;
};

static struct gpu gpus[GPUS_MAX];
static unsigned int count;

static void add(const char *line, size_t length) {
    struct gpu *gpu = &gpus[count];
    char text[256] = "", *rest;
    if (length == 0 || length >= sizeof text || count == GPUS_MAX)
        return;
    memcpy(text, line, length);
    rest = strchr(text, ' ');
    if (rest == NULL)
        return;
    *rest++ = 0;
    strncpy(gpu->uuid, text, sizeof gpu->uuid - 1);
    gpu->memory = strtoull(rest, &rest, 10);
    strncpy(gpu->model, *rest ? rest + 1 : rest, sizeof gpu->model - 1);
    gpu->minor = count++;
}

int nvmlInitWithFlags(unsigned int flags) {
    const char *line = getenv("PFS_STUB_GPUS");
    (void)flags;
    if (line == NULL)
        return DRIVER_NOT_LOADED;
    if (strcmp(line, "broken") == 0)
        return MISMATCH;
    count = 0;
    while (*line) {
        size_t length = strcspn(line, "\n");
        add(line, length);
        line += length + (line[length] == '\n');
    }
    return SUCCESS;
}

int nvmlShutdown(void) { return SUCCESS; }

const char *nvmlErrorString(int result) { return result == MISMATCH ? "Driver/library version mismatch" : "Error"; }

int nvmlDeviceGetCount_v2(unsigned int *found) {
    *found = count;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, struct gpu **device) {
    if (index >= count)
        return INVALID_ARGUMENT;
    if (strcmp(gpus[index].model, "lost") == 0)
        return GPU_IS_LOST;
    *device = &gpus[index];
    return SUCCESS;
}

int nvmlDeviceGetUUID(struct gpu *device, char *text, unsigned int length) {
    strncpy(text, device->uuid, length);
    return SUCCESS;
}

int nvmlDeviceGetName(struct gpu *device, char *text, unsigned int length) {
    strncpy(text, device->model, length);
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(struct gpu *device, struct memory *memory) {
    memory->total = memory->free = device->memory;
    memory->used = 0;
    return SUCCESS;
}

int nvmlDeviceGetMinorNumber(struct gpu *device, unsigned int *minor) {
    *minor = device->minor;
    return SUCCESS;
}
