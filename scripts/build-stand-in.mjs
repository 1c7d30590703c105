/* Builds the program that stands for containers of the OCI runtime: native/stand-in.c -> dist/stand-in. */
import { fileURLToPath } from "node:url";
import { buildStatic } from "./static-c.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
buildStatic(`${root}/dist/stand-in`, [`${root}/native/stand-in.c`], "the stand-in of containers");
