/*
 * What a guest holds of a tree of directories, as a snapshot keeps it: the name of a directory in the tree, and what that
 * keeps (host-directory-state.ts). A directory may come into the restored tree after the state was read.
 */
import type { StateObject, StateReader } from "../../base/state.ts";
import type { FileSystemState, OpenFile, SavedFile, SavedNode } from "../contract.ts";
import type { HostDirectory, HostFile } from "./host-directory.ts";
import { readFlags, readPlace } from "./host-directory-state.ts";
import type { HostNode } from "./host-nodes.ts";

const NAME_MAX = 255;

/** What a node of the tree is in its directory. */
export interface OwnNode {
	/** Of the directory in the tree. */
	readonly name: string;
	readonly directory: HostDirectory;
	readonly node: HostNode;
}

/** The tree; `N` are its nodes. */
export interface Tree<N> {
	/** Undefined for the root, and for what was in a directory that has gone. */
	own(node: N): OwnNode | undefined;
	/** A node of the directory with that name. @throws ErrnoError ESTALE when there is none */
	found(name: string, find: (directory: HostDirectory) => Promise<HostNode>): Promise<N>;
	/** A file of a node. */
	opened(node: N, open: (directory: HostDirectory, node: HostNode) => Promise<HostFile>): Promise<HostFile>;
}

export class HostTreeState<N extends object> implements FileSystemState<N, HostFile> {
	readonly #tree: Tree<N>;

	constructor(tree: Tree<N>) {
		this.#tree = tree;
	}

	saveNode(node: N): StateObject | undefined {
		const own = this.#tree.own(node);
		const saved = own?.directory.state.saveNode(own.node);
		return own === undefined || saved === undefined ? undefined : { ...saved, entry: own.name };
	}

	readNode(saved: StateReader): SavedNode<N> {
		const entry = saved.string("entry", NAME_MAX);
		const place = readPlace(saved);
		const find = async () => await this.#tree.found(entry, (directory) => directory.state.find(place));
		return { name: `${entry}/${place.path}`, find };
	}

	saveFile({ file }: OpenFile<N, HostFile>): StateObject {
		return { flags: file!.flags };
	}

	readFile(saved: StateReader): SavedFile<N, HostFile> {
		const flags = readFlags(saved);
		return { open: (node) => this.#tree.opened(node, (directory, own) => directory.state.open(own, flags)) };
	}

	nameOf(node: N): string {
		const own = this.#tree.own(node);
		return own === undefined ? "a directory that has gone" : own.directory.state.nameOf(own.node);
	}
}
