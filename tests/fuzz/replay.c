/* replay.c: runs a fuzz target once with each file of the folders named (its seeds, and what once broke it). */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned char data[1 << 20];

static int try_file(const char *dir, const char *name)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *f = fopen(path, "re");
	if (!f) {
		printf("not ok %s: cannot be read\n", path);
		exit(1);
	}
	size_t n = fread(data, 1, sizeof(data), f);
	fclose(f);
	/* A copy of exactly its size, so that a sanitizer sees one byte too many. */
	uint8_t *copy = malloc(n ? n : 1);
	memcpy(copy, data, n);
	fprintf(stderr, "# %s\n", path);	/* the last one named is the one that crashed */
	LLVMFuzzerTestOneInput(copy, n);
	free(copy);
	return 1;
}

int main(int argc, char **argv)
{
	int tried = 0;

	for (int i = 1; i < argc; i++) {
		DIR *d = opendir(argv[i]);
		struct dirent *de;
		while (d && (de = readdir(d)))
			if (de->d_name[0] != '.')
				tried += try_file(argv[i], de->d_name);
		if (d)
			closedir(d);
	}
	printf(tried ? "ok %d seeds\n" : "not ok seeds: there are none (%d)\n", tried);
	return !tried;
}
